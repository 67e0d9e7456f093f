"""The cases: searched, judged by thumbs, added to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Response
from fastapi import Path as InPath

from mekiki.cases.case import Case
from mekiki.cases.feedback import Judgement
from mekiki.cases.maintenance import case_stats
from mekiki.cases.remember import SelectedPhoto, remember_selected
from mekiki.cases.run_memory import RunMemory
from mekiki.cases.search import give_feedback, read_feedback, undo_feedback
from mekiki.cases.search import search as search_memory
from mekiki.errors import InputError
from mekiki.judging.routes import Number, png
from mekiki.web.http_errors import NotThereError
from mekiki.web.models import (
    CaseFacts,
    CaseRow,
    CaseStats,
    Found,
    Query,
    Remembered,
    Remembering,
    Said,
    Thumb,
    Thumbs,
)
from mekiki.web.state import Served

CaseInPath = Annotated[str, InPath(min_length=1, max_length=200)]


def memory_routes(served: Served) -> APIRouter:
    """The calls about cases."""
    routes = APIRouter(tags=["cases"])

    @routes.post("/search")
    async def search(query: Query) -> Found:
        """The cases most like a photograph or a text, as people judged what was found before."""
        return await served.worker.do(_search, served, query)

    @routes.post("/feedback")
    async def feedback(thumbs: Thumbs) -> Said:
        """Say which cases a query should have found and which not; it holds from the next search on."""
        return await served.worker.do(_feedback, served, thumbs)

    @routes.get("/feedback")
    async def history() -> Said:
        """All that people said, in order, what was taken back too."""
        return _said(await served.aside.do(read_feedback, served.folder))

    @routes.post("/feedback/{go}/undo")
    async def undo(go: Number) -> Said:
        """Take back what was said in one go."""

        def taken() -> list[Judgement]:
            with served.lock.held():
                return undo_feedback(served.folder, go)

        return _said(await served.worker.do(taken))

    @routes.post("/remember")
    async def remember(remembering: Remembering) -> Remembered:
        """Keep photographs as cases."""
        return await served.worker.do(_remember, served, remembering)

    @routes.get("/cases")
    async def cases() -> CaseStats:
        """How many cases there are, of what, by whom and since when."""
        told = await served.aside.do(_stats, served.folder)
        return CaseStats(images=told.get("images"), notes=told.get("notes"), feedback=told["feedback"])

    @routes.get("/cases/{id}")
    async def case(id: CaseInPath) -> CaseFacts:
        """One case."""
        found = await served.aside.do(_case, served, id)
        return CaseFacts(**found.to_dict(), picture=bool(found.thumbnail))

    @routes.get("/cases/{id}/picture", response_class=Response)
    async def case_picture(id: CaseInPath) -> Response:
        """What is kept of its photograph."""
        found = await served.aside.do(_case, served, id)
        if not found.thumbnail:
            raise NotThereError(f"case {id}: has no picture")
        return png(found.thumbnail)

    return routes


def _stats(folder: Path) -> dict[str, Any]:
    if not RunMemory(folder).exists:
        return {"feedback": {"in_force": 0, "all": 0}}
    return case_stats(RunMemory(folder))


@contextmanager
def _asked(served: Served, photo: str | None) -> Iterator[tuple[Path | None, str | None]]:
    """Where a photograph that is asked about lies, and what errors and the log call it; nothing for a text."""
    if photo is None:
        yield None, None
        return
    kept = served.uploads.get(photo)
    with kept.by_name():
        yield kept.path, kept.name


def _search(served: Served, query: Query) -> Found:
    with _asked(served, query.photo) as (path, name):
        told = search_memory(
            served.run_memory(),
            path,
            query.text,
            k=query.k,
            where=query.where,
            like=query.like,
            unlike=query.unlike,
        )
    return Found(
        query=told["query"] if name is None else name,
        space=told["space"],
        feedback=told["feedback"],
        found=[CaseRow(**row) for row in told["found"]],
    )


def _feedback(served: Served, thumbs: Thumbs) -> Said:
    with _asked(served, thumbs.photo) as (path, name), served.lock.held():
        said = give_feedback(
            served.run_memory(), path, thumbs.text, good=thumbs.good, bad=thumbs.bad, asked=name
        )
    return _said(said)


def _remember(served: Served, remembering: Remembering) -> Remembered:
    kept = [(served.uploads.get(one.photo), one) for one in remembering.photos]
    for _, one in kept:
        if not one.label.isprintable():
            raise InputError("label: holds what cannot be printed; give plain words")
    with served.lock.held():
        picked = [SelectedPhoto(Path(file.path), file.name, one.label, one.note) for file, one in kept]
        return Remembered(**remember_selected(served.run_memory(), picked))


def _case(served: Served, id_: str) -> Case:
    found: Case | None = next(iter(served.run_memory().store("images").get([id_])), None)
    if found is None:
        raise NotThereError(f"case {id_}: there is none")
    return found


def _said(judgements: list[Judgement]) -> Said:
    names = Thumb.model_fields
    return Said(feedback=[Thumb(**{name: each.to_dict()[name] for name in names}) for each in judgements])
