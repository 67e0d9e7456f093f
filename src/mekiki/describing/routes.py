"""Photographs described in words, as `mekiki.describing` speaks them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from mekiki.describing.describe import Explainer, Subject
from mekiki.errors import InputError
from mekiki.web.models import CaseRow, Describing
from mekiki.web.state import Served


class Piece(NamedTuple):
    """One event of a description: `speaker`, `guess`, `text`, `cases`, `problem` or `end`, and what goes with it."""

    event: str
    data: dict[str, Any]


def describing_routes(served: Served) -> APIRouter:
    """The call for words."""
    routes = APIRouter(tags=["describing"])

    @routes.post("/describe", response_class=StreamingResponse)
    async def describe(describing: Describing) -> StreamingResponse:
        """Describe a photograph, as server-sent events: `speaker`, `guess`, `text`, `cases`, `end`."""
        pieces = await served.worker.do(_description, served, describing)

        async def events() -> AsyncIterator[str]:
            number = 0
            # One by one, so that the photographs of others come between.
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


def _description(served: Served, describing: Describing) -> Iterator[Piece]:
    """The description piece by piece; what can be refused is refused before the first."""
    kept = served.uploads.get(describing.photo)
    explainer = served.explainer().in_language(describing.language)
    if describing.question is not None and explainer.method != "language model":
        raise InputError(
            "question: goes with a language model (`mekiki describe-train --lm`); without one there is one question"
        )
    with kept.by_name():
        (subject,) = explainer.look_at([kept.path])
    return _pieces(explainer, subject, describing.question)


def _pieces(explainer: Explainer, subject: Subject, question: str | None) -> Iterator[Piece]:
    yield Piece("speaker", {"method": explainer.method, "language": explainer.language})
    if explainer.warning:
        yield Piece("guess", {"message": explainer.warning})
    said = ""
    try:
        for text in explainer.stream(subject, question):
            said += text
            yield Piece("text", {"text": text})
        rows = explainer.rests_on(subject, said)
    except InputError as error:  # the answer has begun, so no status can tell any more
        yield Piece("problem", {"error": str(error)})
        return
    yield Piece("cases", {"cases": [CaseRow(**row).model_dump() for row in rows]})
    yield Piece("end", {})
