"""Photographs judged, and the judge taught."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
from fastapi import APIRouter, File, Query, Response, UploadFile
from fastapi import Path as InPath

from mekiki.cases.encoders import JudgeEncoder
from mekiki.cases.search import find_similar
from mekiki.data.image_set import Pixels
from mekiki.data.photo import iter_photos
from mekiki.errors import InputError
from mekiki.judging.corrections import Entry, read_corrections
from mekiki.judging.inspector import Inspector, Verdict
from mekiki.judging.teach import teach_judge, undo
from mekiki.storage.run import finite
from mekiki.web.http_errors import NotThereError, TooMuchError
from mekiki.web.models import (
    CaseRow,
    Example,
    Examples,
    Heat,
    Histogram,
    Judged,
    Judgements,
    Lesson,
    Lessons,
    Photo,
    Photos,
    Taught,
    Teaching,
)
from mekiki.web.state import Served, as_png
from mekiki.web.uploads import Kept

BINS = 40

PhotoFiles = Annotated[list[UploadFile], File(description="png, jpg, bmp, tif or webp")]
PhotoInPath = Annotated[str, InPath(pattern="^[0-9a-f]{32}$")]
Number = Annotated[int, InPath(ge=0, lt=2**31)]


def judging_routes(served: Served) -> APIRouter:
    """The calls about photographs."""
    routes = APIRouter(tags=["judging"])

    @routes.post("/photos")
    async def upload(photos: PhotoFiles) -> Photos:
        """Keep photographs for this session, without judging them."""
        return Photos(photos=[_photo(one) for one in await served.aside.do(_kept, served, photos)])

    @routes.post("/judge")
    async def judge(photos: PhotoFiles, cases: Annotated[int, Query(ge=0, le=20)] = 0) -> Judgements:
        """Judge photographs: OK or NG, how sure, why and where."""
        kept = await served.aside.do(_kept, served, photos)
        # One by one, so that those of others come between.
        return Judgements(verdicts=[await served.worker.do(_judged, served, one, cases) for one in kept])

    @routes.get("/photos/{photo}/picture", response_class=Response)
    async def picture(photo: PhotoInPath) -> Response:
        """A photograph as the judge saw it."""
        kept = served.uploads.get(photo)
        return png(as_png(await served.worker.do(_seen, served, kept)))

    @routes.get("/judge/histogram")
    async def histogram() -> Histogram:
        """The scores of the OK parts that set the threshold."""
        return await served.worker.do(_histogram, served)

    @routes.get("/examples")
    async def examples() -> Examples:
        """The parts that photographs are compared with."""
        own = (await served.worker.do(served.inspector)).examples
        return Examples(
            examples=[
                Example(example=row, name=name, kind=kind)
                for row, (name, kind) in enumerate(zip(own.names, own.kinds, strict=True))
            ]
        )

    @routes.get("/examples/{example}/picture", response_class=Response)
    async def example_picture(example: Number) -> Response:
        """One of these parts."""
        own = (await served.worker.do(served.inspector)).examples
        if example >= len(own.names):
            raise NotThereError(f"example {example}: there are {len(own.names)}, counted from 0")
        return png(as_png(own.thumbnail(example)))

    @routes.post("/teach")
    async def teach(teaching: Teaching) -> Taught:
        """Tell the judge what a photograph is; it holds from the next judgement on."""
        kept = served.uploads.get(teaching.photo)
        return await served.worker.do(_teach, served, kept, teaching.label)

    @routes.post("/teach/{lesson}/undo")
    async def undo_lesson(lesson: Number) -> Lesson:
        """Take a lesson back."""
        return await served.worker.do(_undo, served, lesson)

    @routes.get("/lessons")
    async def lessons() -> Lessons:
        """All lessons in order, those taken back too."""
        return Lessons(
            lessons=[_lesson(each) for each in await served.aside.do(read_corrections, served.folder)]
        )

    return routes


def png(content: bytes) -> Response:
    """A picture, which a browser may keep for itself."""
    return Response(content, media_type="image/png", headers={"cache-control": "private, max-age=3600"})


def judged(served: Served, inspector: Inspector, verdict: Verdict, kept: Kept, cases: int = 0) -> Judged:
    """A verdict for the page."""
    row = verdict.finite_row() | {"file": kept.name}
    if verdict.pixels is None:
        return _unreadable(kept.name, row["problem"])
    height, width = verdict.pixels.shape[:2]
    taught = inspector.lesson_on(verdict)
    return Judged(
        **row,
        photo=kept.photo,
        height=height,
        width=width,
        heat=None if verdict.places is None else _heat(verdict.places),
        ok_example=_place(inspector.examples.names, verdict.like_ok),
        ng_example=_place(inspector.examples.names, verdict.like_ng),
        because=verdict.because,
        lesson=None if taught is None else taught.number,
        cases=_cases(served, inspector, verdict, cases) if cases else [],
    )


def _kept(served: Served, photos: Sequence[UploadFile]) -> list[Kept]:
    if len(photos) > served.limits.files:
        raise TooMuchError(f"{len(photos)} photographs at once; send at most {served.limits.files}")
    return [served.uploads.keep(one.filename, one.file) for one in photos]


def _photo(one: Kept) -> Photo:
    return Photo(
        photo=one.photo or None, file=one.name, height=one.height, width=one.width, problem=one.problem
    )


def _judged(served: Served, kept: Kept, cases: int) -> Judged:
    inspector = served.inspector()
    if kept.problem:
        return _unreadable(kept.name, kept.problem)
    return judged(served, inspector, inspector.judge_one(kept.path, where=True), kept, cases)


def _unreadable(name: str, problem: str) -> Judged:
    row = Verdict(Path(name), "unreadable", problem=problem).finite_row()
    return Judged(
        **row,
        photo=None,
        height=0,
        width=0,
        heat=None,
        ok_example=None,
        ng_example=None,
        because="view",
        lesson=None,
        cases=[],
    )


def _heat(places: np.ndarray) -> Heat:
    rows, columns = places.shape
    values = finite(np.round(places.astype(np.float64), 4).tolist())
    return Heat(rows=rows, columns=columns, values=[[each or 0.0 for each in row] for row in values])


def _place(names: Sequence[str], name: str) -> int | None:
    return names.index(name) if name and name in names else None


def _cases(served: Served, inspector: Inspector, verdict: Verdict, k: int) -> list[CaseRow]:
    run_memory = served.run_memory()
    if verdict.pixels is None or not isinstance(run_memory.photo_encoder, JudgeEncoder):
        return []
    try:
        memory = run_memory.memory("images")
    except InputError:  # it remembers nothing yet
        return []
    found = find_similar(memory, run_memory.photo_encoder.vector(verdict), verdict.pixels, k)
    return [CaseRow(**row) for row in found]


def _seen(served: Served, kept: Kept) -> Pixels:
    """A photograph as the eye takes it; without an eye as it is."""
    extractor = getattr(served.run_memory().photo_encoder, "extractor", None)
    extractor = served.inspector().extractor if extractor is None else extractor
    ((one,),) = iter_photos([kept.path], extractor.frame, extractor.channels)
    if one.pixels is None:
        raise InputError(f"{kept.name}: {one.problem}")
    return one.pixels


def _histogram(served: Served) -> Histogram:
    inspector = served.inspector()
    scores = np.asarray(inspector.judge.calibration_scores, np.float64)
    counts, edges = np.histogram(scores[np.isfinite(scores)], BINS)
    threshold = getattr(inspector.judge.threshold, "value", None)
    return Histogram(
        edges=edges.tolist(),
        counts=counts.tolist(),
        threshold=None if threshold is None else float(threshold),
        false_reject=float(inspector.facts["false_reject"]),
    )


def _teach(served: Served, kept: Kept, label: str) -> Taught:
    if not label.isprintable():
        raise InputError("label: holds what cannot be printed; give OK, NG, or NG:KIND such as NG:scratch")
    with served.lock.held(), kept.by_name():
        inspector = served.inspector()
        entry, before, after = teach_judge(inspector, kept.path, label, name=kept.name, where=True)
    return Taught(lesson=_lesson(entry), before=before.verdict, after=judged(served, inspector, after, kept))


def _undo(served: Served, number: int) -> Lesson:
    with served.lock.held():
        return _lesson(undo(served.folder, number))


def _lesson(entry: Entry) -> Lesson:
    facts = asdict(entry)
    del facts["content"]
    return Lesson(**facts)
