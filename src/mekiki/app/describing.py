"""Photographs described in words; the words come from the room `mekiki.explaining`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from mekiki.app.models import Describing
from mekiki.app.served import Served
from mekiki.errors import InputError

DESCRIBER = "describer"
"""Folder in the run that holds what describes."""


class Piece(NamedTuple):
    """One event of a description: `cases`, `text`, `guess` or `end`, and what goes with it."""

    event: str
    data: dict[str, Any]


def describes(folder: Path) -> bool:
    """Whether a run has what describes."""
    return (folder / DESCRIBER).is_dir()


def description(folder: Path, image: Path, question: str | None, language: str) -> Iterator[Piece]:
    """The description of a photograph, piece by piece: the one place where the page meets `mekiki.explaining`.

    Raises:
        InputError: the run does not describe.
    """
    raise InputError(f"{folder.name}: does not describe yet; it has no describer")


def describing_routes(served: Served) -> APIRouter:
    """The call for words."""
    routes = APIRouter(tags=["describing"])

    @routes.post("/describe", response_class=StreamingResponse)
    async def describe(describing: Describing) -> StreamingResponse:
        """Describe a photograph, as server-sent events: `cases`, `text`, `guess`, `end`."""
        kept = served.uploads.get(describing.photo)
        pieces = await served.worker.do(
            description, served.folder, kept.path, describing.question, describing.language
        )

        async def events() -> Any:
            number = 0
            while (piece := await served.worker.do(next, pieces, None)) is not None:
                yield event(piece.event, piece.data, number)
                number += 1

        return StreamingResponse(events(), media_type="text/event-stream")

    return routes


def event(name: str, data: Any, number: int | None = None) -> str:
    r"""One server-sent event.

    Example:
        >>> event("end", {}, 3)
        'event: end\nid: 3\ndata: {}\n\n'
    """
    numbered = "" if number is None else f"id: {number}\n"
    return f"event: {name}\n{numbered}data: {json.dumps(data, allow_nan=False)}\n\n"
