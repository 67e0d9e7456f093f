"""Routes of trainings: start, follow, stop and resume them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse
from numpy.typing import NDArray
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from mekiki.data.catalogue import catalogue
from mekiki.errors import BusyError, NotFoundError
from mekiki.experiments.snapshots import NOTE, Snapshots, read_snapshots
from mekiki.experiments.training_jobs import (
    TrainingJobs,
    TrainingStatus,
    read_epochs,
    read_findings,
    read_metrics,
)
from mekiki.models.networks import ENCODERS
from mekiki.recipes import RECIPES
from mekiki.storage.json_files import finite
from mekiki.training.objectives import LOSSES
from mekiki.web.state import AppState
from mekiki.web.wire import Name, RequestBody, ResponseBody, encode_column, format_event, list_model

POLL_INTERVAL_S = 0.25
"""How often the files of a training are read for a stream."""
HEARTBEAT_INTERVAL_S = 10.0
"""How often a stream without news sends a comment, so that the connection stays open."""
MAX_STREAMS = 16


class TrainingRequest(RequestBody):
    """What to train, as the options of `mekiki train`."""

    data: str = Field(min_length=1, max_length=1000)
    recipe: str = Field("post", max_length=40)
    loss: str | None = Field(None, max_length=80)
    encoder: str | None = Field(None, max_length=1000)
    dim: int | None = Field(None, ge=1, le=4096)
    margin: float | None = Field(None, gt=0, le=1e6)
    epochs: int | None = Field(None, ge=1, le=10_000)
    batch_size: int | None = Field(None, ge=2, le=65_536)
    lr: float | None = Field(None, gt=0, le=100)
    per_class: int | None = Field(None, ge=2, le=1_000_000)
    size: int | None = Field(None, ge=4, le=1024)
    seed: int = Field(0, ge=0, lt=2**31)


@dataclass(frozen=True)
class TrainingDetail(TrainingStatus):
    """One training, with its results."""

    history: dict[str, list[float | None]]
    findings: list[dict[str, Any]]
    metrics: dict[str, Any] | None


class EpochPositions(ResponseBody):
    """Positions of the same images after each epoch."""

    count: int
    epochs: int
    points: str = Field(description="base64, float32 [epochs, count, 2]")
    label: str = Field(description="base64, uint16, index into labels")
    labels: list[str]
    note: str


class TrainingChoices(ResponseBody):
    """What may be chosen for a training."""

    recipes: list[str]
    losses: list[str]
    encoders: list[str]
    data: list[str] = Field(description="installed data sets by name, and folders under --allow")


def training_routes(jobs: TrainingJobs, state: AppState) -> APIRouter:
    """Return the routes of trainings."""
    routes = APIRouter(tags=["training"])
    streams: set[object] = set()

    @routes.get("/trainings/choices")
    async def choices() -> TrainingChoices:
        """What may be chosen for a training."""
        sets = await run_in_threadpool(catalogue)
        names = [
            each.name for each in sets if each.name in ("digits", "surfaces") or Path(each.where).exists()
        ]
        return TrainingChoices(
            recipes=list(RECIPES),
            losses=list(LOSSES),
            encoders=list(ENCODERS),
            data=[*names, *(str(folder) for folder in state.allowed.further)],
        )

    @routes.get("/trainings", response_model=list_model("trainings", TrainingStatus))
    async def list_trainings() -> dict[str, Any]:
        """All trainings of this run."""
        return {"trainings": await run_in_threadpool(jobs.list_all)}

    @routes.post("/trainings", status_code=201)
    async def start(body: TrainingRequest) -> TrainingStatus:
        """Start a training; one runs at a time."""
        return await run_in_threadpool(jobs.start, body.model_dump(exclude_none=True))

    @routes.get("/trainings/{id}")
    async def training(id: Name) -> TrainingDetail:
        """One training, with its history and the findings of the collapse check."""
        return await run_in_threadpool(_detail, jobs, id)

    @routes.get("/trainings/{id}/epochs")
    async def epochs(id: Name) -> EpochPositions:
        """Positions of the same images after each epoch."""
        return await run_in_threadpool(_positions, jobs, id)

    @routes.get("/trainings/{id}/events", response_class=StreamingResponse)
    async def events(
        id: Name, last_event_id: Annotated[str | None, Header(max_length=20)] = None
    ) -> StreamingResponse:
        """The progress of a training, as server-sent events: `images`, `epoch`, `state`."""
        await run_in_threadpool(jobs.folder_of, id)
        if len(streams) >= MAX_STREAMS:
            raise BusyError(f"{MAX_STREAMS} streams are open already; close one")
        last = last_event_id or ""
        since = int(last) if last.isascii() and last.isdigit() else 0

        async def stream() -> AsyncIterator[str]:
            mark = object()
            streams.add(mark)
            try:
                async for event in _follow(jobs, state, id, since):
                    yield event
            finally:
                streams.discard(mark)

        return StreamingResponse(stream(), media_type="text/event-stream")

    @routes.post("/trainings/{id}/stop")
    async def stop(id: Name) -> TrainingStatus:
        """Stop a training; the epochs that are done are kept."""
        return await run_in_threadpool(jobs.stop, id)

    @routes.post("/trainings/{id}/resume")
    async def resume(id: Name) -> TrainingStatus:
        """Resume a training that was stopped."""
        return await run_in_threadpool(jobs.resume, id)

    return routes


def _detail(jobs: TrainingJobs, name: str) -> TrainingDetail:
    folder = jobs.folder_of(name)
    return TrainingDetail(
        **vars(jobs.status(name)),
        history=finite(read_epochs(folder)),
        findings=read_findings(folder),
        metrics=read_metrics(folder),
    )


def _positions(jobs: TrainingJobs, name: str) -> EpochPositions:
    snapshots = read_snapshots(jobs.folder_of(name))
    if snapshots is None:
        raise NotFoundError(f"training {name}: stored no positions; trainings started here do")
    points = encode_column(snapshots.points, "<f4")
    return EpochPositions(epochs=len(snapshots.points), points=points, note=NOTE, **_images(snapshots))


def _images(snapshots: Snapshots) -> dict[str, Any]:
    """Return what the points of a training are."""
    return {
        "count": len(snapshots.labels),
        "label": encode_column(snapshots.labels, "<u2"),
        "labels": snapshots.class_names,
    }


async def _follow(jobs: TrainingJobs, state: AppState, name: str, since: int) -> AsyncIterator[str]:
    """Yield the events of a training from the epoch after `since` on, until it ends or the server closes."""
    last, images_sent, idle = None, False, 0.0
    while not state.closing:
        status = await run_in_threadpool(jobs.status, name)
        epochs, images = await run_in_threadpool(_read_epochs_since, jobs.folder_of(name), since)
        if images is not None and not images_sent:
            images_sent = True
            yield format_event("images", images)
        for epoch in epochs:
            since = epoch["epoch"]
            yield format_event("epoch", epoch, since)
        key = replace(status, done=0, snapshots=0)
        if key != last:
            last = key
            yield format_event("state", vars(status))
        if status.state != "running":
            return
        idle = 0.0 if epochs else idle + POLL_INTERVAL_S
        if idle >= HEARTBEAT_INTERVAL_S:
            idle = 0.0
            yield ": still running\n\n"
        await asyncio.sleep(POLL_INTERVAL_S)


def _read_epochs_since(folder: Path, since: int) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Return the epochs after `since` as event data, and what their points are if these are stored."""
    history = read_epochs(folder)
    done = len(history.get("epoch", []))
    if done <= since:
        return [], None
    snapshots = read_snapshots(folder, since)
    positions: Sequence[NDArray[np.float32]] = [] if snapshots is None else list(snapshots.points)
    findings = read_findings(folder)
    epochs = []
    for row in range(since, done):
        points = positions[row - since] if row - since < len(positions) else None
        epochs.append(
            {
                "epoch": row + 1,
                "row": finite({name: column[row] for name, column in history.items()}),
                "findings": findings if row == done - 1 else [],
                "points": None
                if points is None or not np.isfinite(points).all()
                else encode_column(points, "<f4"),
            }
        )
    return epochs, None if snapshots is None else _images(snapshots)
