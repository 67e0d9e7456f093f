"""Routes of the cases: search, feedback, and adding cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Response
from fastapi import Path as PathParameter
from pydantic import Field

from mekiki.cases.case import Case
from mekiki.cases.encoders import JudgeEncoder
from mekiki.cases.feedback import Judgement
from mekiki.cases.maintenance import case_stats
from mekiki.cases.remember import SelectedPhoto, remember_selected
from mekiki.cases.run_memory import RunMemory
from mekiki.cases.search import find_similar, give_feedback, read_feedback, search, undo_feedback
from mekiki.errors import InputError, NotFoundError
from mekiki.judging.verdict import Verdict
from mekiki.web.state import AppState
from mekiki.web.wire import (
    CaseId,
    Index,
    PhotoId,
    RequestBody,
    ResponseBody,
    check_label,
    list_model,
    png_response,
)

CaseIdInPath = Annotated[str, PathParameter(min_length=1, max_length=200)]


class CaseFields(ResponseBody):
    """One case without its vector."""

    id: str
    label: str
    note: str
    image: str
    who: str
    time: str
    run: str
    encoder: str


class CaseDetail(CaseFields):
    """One case, and whether it has a picture."""

    picture: bool


class CaseRow(CaseFields):
    """A past case that a search found."""

    rank: int
    distance: float
    shift: float = Field(description="what feedback added to the distance; negative is nearer")


class SearchRequest(RequestBody):
    """A query: a photograph or a text, or only cases that the result should be like."""

    photo: PhotoId | None = None
    text: str | None = Field(None, max_length=4000)
    k: int = Field(10, ge=1, le=200)
    where: str | None = Field(None, max_length=10_000)
    like: list[CaseId] = Field([], max_length=100)
    unlike: list[CaseId] = Field([], max_length=100)


class SearchAnswer(ResponseBody):
    """Cases, the nearest first."""

    query: str
    space: str
    feedback: int
    found: list[CaseRow]


class FeedbackRequest(RequestBody):
    """Which cases a query should have found, and which not."""

    photo: PhotoId | None = None
    text: str | None = Field(None, max_length=4000)
    good: list[CaseId] = Field([], max_length=200)
    bad: list[CaseId] = Field([], max_length=200)


class FeedbackEntry(ResponseBody):
    """Feedback on one case."""

    number: int
    go: int
    space: str
    asked: str
    case: str
    good: bool
    who: str
    when: str
    undone: bool


class PhotoToRemember(RequestBody):
    """One photograph to add as a case."""

    photo: PhotoId
    label: str = Field("", max_length=200)
    note: str = Field("", max_length=4000)


class RememberRequest(RequestBody):
    """Photographs to add as cases."""

    photos: list[PhotoToRemember] = Field(min_length=1, max_length=500)


class RememberResult(ResponseBody):
    """How many photographs are cases now."""

    cases: int
    new: int
    unreadable: int


class CaseStats(ResponseBody):
    """What is stored: by space `images` and `notes`, as `mekiki cases stats --json`."""

    images: dict[str, Any] | None = None
    notes: dict[str, Any] | None = None
    feedback: dict[str, int]


def case_routes(state: AppState) -> APIRouter:
    """Return the routes of cases."""
    routes = APIRouter(tags=["cases"])
    feedback_list = list_model("feedback", FeedbackEntry)

    @routes.post("/search", response_model=SearchAnswer)
    async def search_cases(query: SearchRequest) -> dict[str, Any]:
        """The cases nearest to a photograph or a text, re-ranked by feedback."""
        return await state.model_worker.run(_search, state, query)

    @routes.post("/feedback", response_model=feedback_list)
    async def add_feedback(body: FeedbackRequest) -> dict[str, Any]:
        """Say which cases a query should have found and which not; it holds from the next search on."""
        return _to_dict(await state.model_worker.run(_add_feedback, state, body))

    @routes.get("/feedback", response_model=feedback_list)
    async def list_feedback() -> dict[str, Any]:
        """All feedback in order, including what was undone."""
        return _to_dict(await state.io_worker.run(read_feedback, state.folder))

    @routes.post("/feedback/{go}/undo", response_model=feedback_list)
    async def undo(go: Index) -> dict[str, Any]:
        """Undo one entry of feedback."""
        return _to_dict(await state.model_worker.run(_undo_feedback, state, go))

    @routes.post("/remember", response_model=RememberResult)
    async def remember(body: RememberRequest) -> dict[str, int]:
        """Add photographs as cases."""
        return await state.model_worker.run(_remember, state, body)

    @routes.get("/cases", response_model=CaseStats)
    async def stats() -> dict[str, Any]:
        """How many cases there are, of which labels, by whom and since when."""
        return await state.io_worker.run(_stats, state.folder)

    @routes.get("/cases/{id}", response_model=CaseDetail)
    async def case(id: CaseIdInPath) -> dict[str, Any]:
        """One case."""
        case = await state.io_worker.run(_get_case, state, id)
        return case.to_dict() | {"picture": bool(case.thumbnail)}

    @routes.get("/cases/{id}/picture", response_class=Response)
    async def picture(id: CaseIdInPath) -> Response:
        """The stored picture of a case."""
        case = await state.io_worker.run(_get_case, state, id)
        if not case.thumbnail:
            raise NotFoundError(f"case {id}: has no picture")
        return png_response(case.thumbnail)

    return routes


def similar_cases(state: AppState, verdict: Verdict, k: int) -> list[dict[str, Any]]:
    """Return the k past cases nearest to a judged photograph, as rows of `CaseRow`; empty without a case memory."""
    memory = state.run_memory()
    if verdict.photo.pixels is None or not isinstance(memory.photo_encoder, JudgeEncoder):
        return []
    try:
        cases = memory.memory("images")
    except InputError:  # there are no cases yet
        return []
    return find_similar(cases, memory.photo_encoder.vector(verdict), verdict.photo.pixels, k)


@contextmanager
def _query_photo(state: AppState, photo: str | None) -> Iterator[tuple[Path | None, str | None]]:
    """Give path and file name of an uploaded query; nothing for a text."""
    if photo is None:
        yield None, None
        return
    upload = state.uploads.get(photo)
    with upload.name_in_errors():
        yield upload.path, upload.file


def _search(state: AppState, query: SearchRequest) -> dict[str, Any]:
    options = query.model_dump(exclude={"photo", "text"})
    with _query_photo(state, query.photo) as (path, name):
        result = search(state.run_memory(), path, query.text, **options)
    return result if name is None else result | {"query": name}


def _add_feedback(state: AppState, body: FeedbackRequest) -> list[Judgement]:
    with _query_photo(state, body.photo) as (path, name), state.changing():
        memory = state.run_memory()
        return give_feedback(memory, path, body.text, good=body.good, bad=body.bad, asked=name)


def _undo_feedback(state: AppState, go: int) -> list[Judgement]:
    with state.changing():
        return undo_feedback(state.folder, go)


def _remember(state: AppState, body: RememberRequest) -> dict[str, int]:
    photographs = []
    for photo in body.photos:
        check_label(photo.label)
        upload = state.uploads.get(photo.photo)
        photographs.append(SelectedPhoto(upload.path, upload.file, photo.label, photo.note))
    with state.changing():
        return remember_selected(state.run_memory(), photographs)


def _stats(folder: Path) -> dict[str, Any]:
    if not RunMemory(folder).exists:
        return {"feedback": {"in_force": 0, "all": 0}}
    return case_stats(RunMemory(folder))


def _get_case(state: AppState, id_: str) -> Case:
    case: Case | None = next(iter(state.run_memory().store("images").get([id_])), None)
    if case is None:
        raise NotFoundError(f"case {id_}: there is none")
    return case


def _to_dict(feedback: Sequence[Judgement]) -> dict[str, Any]:
    return {"feedback": [each.to_dict() for each in feedback]}
