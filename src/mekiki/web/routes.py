"""Routes of the run and of its maps."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from mekiki.cases.relabel import Relabelling, read_relabellings
from mekiki.cases.routes import RememberResult
from mekiki.web.projections import MapColumns, MapPoint, Maps, MapSource
from mekiki.web.state import AppState, RunSummary
from mekiki.web.wire import Index, Label, Name, RequestBody, ResponseBody, list_model, png_response

Row = Annotated[int, Field(ge=0, lt=2**31)]


class LabelRequest(RequestBody):
    """Points to give another label."""

    fingerprint: str = Field(max_length=64)
    rows: list[Row] = Field(min_length=1, max_length=100_000)
    label: Label


class LabelResult(ResponseBody):
    """A change of labels that was made."""

    change: int = Field(description="its number, to undo it by")
    changed: int
    fingerprint: str


class SendRequest(RequestBody):
    """Points to send to the cases."""

    fingerprint: str = Field(max_length=64)
    rows: list[Row] = Field(min_length=1, max_length=10_000)
    label: str | None = Field(None, max_length=200, description="if left out, each point keeps its own")


class LabelChange(ResponseBody):
    """One change of labels."""

    change: int
    label: str
    cases: int
    who: str
    when: str
    undone: bool


def run_routes(state: AppState) -> APIRouter:
    """Return the route of the run."""
    routes = APIRouter(tags=["run"])

    @routes.get("/run")
    async def run() -> RunSummary:
        """The run: what it can do, its guarantee, its numbers."""
        return await state.model_worker.run(state.summarise)

    return routes


def map_routes(maps: Maps) -> APIRouter:
    """Return the routes of maps, all in the thread of model calls, which opens the same files."""
    routes, run = APIRouter(tags=["maps"]), maps.state.model_worker.run

    @routes.get("/maps", response_model=list_model("maps", MapSource))
    async def sources() -> dict[str, Any]:
        """All maps."""
        return {"maps": await run(maps.list_sources)}

    @routes.get("/maps/{source}", response_model=MapColumns)
    async def columns(source: Name) -> Response:
        """A map, column by column."""
        return JSONResponse(vars((await run(maps.get, source))[1]))

    @routes.get("/maps/{source}/points/{row}")
    async def point(source: Name, row: Index) -> MapPoint:
        """One point of a map."""
        return await run(maps.point, source, row)

    @routes.get("/maps/{source}/points/{row}/picture", response_class=Response)
    async def picture(source: Name, row: Index) -> Response:
        """The picture of a point."""
        return png_response(await run(maps.picture, source, row))

    @routes.post("/maps/{source}/label")
    async def label(source: Name, body: LabelRequest) -> LabelResult:
        """Give cases another label; the log keeps the old ones."""
        change, fingerprint = await run(maps.label, source, body.fingerprint, body.rows, body.label)
        return LabelResult(change=change.number, changed=len(change.before), fingerprint=fingerprint)

    @routes.post("/maps/{source}/remember", response_model=RememberResult)
    async def remember(source: Name, body: SendRequest) -> dict[str, int]:
        """Send points to the cases."""
        return await run(maps.remember, source, body.fingerprint, body.rows, body.label)

    @routes.get("/labels", response_model=list_model("changes", LabelChange))
    async def labels() -> dict[str, Any]:
        """All changes of labels, in order."""
        return {"changes": [_to_dict(change) for change in await run(read_relabellings, maps.state.folder)]}

    @routes.post("/labels/{change}/undo", response_model=LabelChange)
    async def undo(change: Index) -> dict[str, Any]:
        """Undo a change of labels."""
        return _to_dict(await run(maps.undo, change))

    return routes


def _to_dict(change: Relabelling) -> dict[str, Any]:
    return vars(change) | {"change": change.number, "cases": len(change.before)}
