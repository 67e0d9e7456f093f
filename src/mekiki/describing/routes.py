"""Route of descriptions: a photograph described as a stream of server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal, NamedTuple

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import Field

from mekiki.describing.describe import PartInput, RunDescriber
from mekiki.errors import InputError
from mekiki.web.state import AppState
from mekiki.web.wire import PhotoId, RequestBody, format_event


class DescribeRequest(RequestBody):
    """A photograph to describe."""

    photo: PhotoId
    question: str | None = Field(None, max_length=2000)
    language: Literal["en", "ja"] = "en"


class DescriptionEvent(NamedTuple):
    """One event of a description: `speaker`, `guess`, `text`, `cases`, `problem` or `end`, and its data."""

    name: str
    data: dict[str, Any]


def description_routes(state: AppState) -> APIRouter:
    """Return the route of descriptions."""
    routes = APIRouter(tags=["describing"])

    @routes.post("/describe", response_class=StreamingResponse)
    async def describe(body: DescribeRequest) -> StreamingResponse:
        """Describe a photograph, as server-sent events: `speaker`, `guess`, `text`, `cases`, `end`."""
        description = await state.model_worker.run(_describe, state, body)

        async def stream() -> AsyncIterator[str]:
            number = 0
            # One call for each event, so that requests of others are served in between.
            while (event := await state.model_worker.run(next, description, None)) is not None:
                yield format_event(event.name, event.data, number)
                number += 1

        return StreamingResponse(stream(), media_type="text/event-stream")

    return routes


def _describe(state: AppState, body: DescribeRequest) -> Iterator[DescriptionEvent]:
    """Return the events of a description; what can be refused is refused before the first one."""
    upload = state.uploads.get(body.photo)
    explainer = state.explainer().in_language(body.language)
    if body.question is not None and explainer.method != "language model":
        raise InputError(
            "question: needs a language model (`mekiki describe-train --lm`); without one leave it out"
        )
    with upload.name_in_errors():
        (subject,) = explainer.read_photos([upload.path])
    return _events(explainer, subject, body.question)


def _events(explainer: RunDescriber, subject: PartInput, question: str | None) -> Iterator[DescriptionEvent]:
    yield DescriptionEvent("speaker", {"method": explainer.method, "language": explainer.language})
    if explainer.warning:
        yield DescriptionEvent("guess", {"message": explainer.warning})
    description = ""
    try:
        for text in explainer.stream(subject, question):
            description += text
            yield DescriptionEvent("text", {"text": text})
        cases = explainer.cited_cases(subject, description)
    except InputError as error:  # too late for an HTTP status
        yield DescriptionEvent("problem", {"error": str(error)})
        return
    yield DescriptionEvent("cases", {"cases": cases})
    yield DescriptionEvent("end", {})
