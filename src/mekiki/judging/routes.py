"""Routes of the judge: uploads, verdicts, corrections and examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, File, Query, Response, UploadFile
from fastapi import Path as PathParameter
from numpy.typing import NDArray
from pydantic import Field

from mekiki.cases.routes import CaseRow, similar_cases
from mekiki.data.photo import Photo, read_photo
from mekiki.errors import InputError, NotFoundError
from mekiki.judging.corrections import read_corrections
from mekiki.judging.judge_photos import Inspector
from mekiki.judging.teach import teach_judge, undo
from mekiki.judging.verdict import Verdict
from mekiki.web.http_errors import RequestTooLargeError
from mekiki.web.state import AppState
from mekiki.web.uploads import Upload
from mekiki.web.wire import (
    Index,
    Label,
    PhotoId,
    RequestBody,
    ResponseBody,
    check_label,
    encode_png,
    list_model,
    png_response,
)

BINS = 40

PhotoFiles = Annotated[list[UploadFile], File(description="png, jpg, bmp, tif or webp")]
PhotoIdInPath = Annotated[str, PathParameter(pattern="^[0-9a-f]{32}$")]


class UploadedPhoto(ResponseBody):
    """A photograph that was uploaded, stored for this session."""

    photo: str | None = Field(description="its id; null if it could not be read")
    file: str
    height: int
    width: int
    problem: str


class HeatMap(ResponseBody):
    """Anomaly map: a grid over the whole photograph."""

    rows: int
    columns: int
    values: list[list[float]]


class JudgedPhoto(ResponseBody):
    """A verdict; the first eleven fields are those of `mekiki judge --json`."""

    file: str
    verdict: Literal["OK", "NG", "unreadable"]
    score: float | None
    p: float | None
    threshold: float | None
    why: str
    kind: str
    like_ok: str
    like_ng: str
    problem: str
    note: str
    photo: str | None = Field(None, description="id of the photograph, for its picture and for corrections")
    height: int = 0
    width: int = 0
    heat: HeatMap | None = None
    ok_example: int | None = Field(None, description="number of like_ok among the examples")
    ng_example: int | None = None
    because: Literal["view", "lesson", "taught"] = Field(
        "view",
        description="what `why` names: the feature group with the largest score, a correction of a similar photograph, "
        "or a correction of this photograph",
    )
    lesson: int | None = Field(None, description="number of the correction of this photograph")
    cases: list[CaseRow] = Field(default_factory=list)


class ScoreHistogram(ResponseBody):
    """Histogram of the scores of the OK parts that set the threshold."""

    edges: list[float]
    counts: list[int]
    threshold: float | None
    false_reject: float


class ExamplePart(ResponseBody):
    """A part that photographs are compared with."""

    example: int
    name: str
    kind: str


class CorrectionRequest(RequestBody):
    """The right verdict of a photograph."""

    photo: PhotoId
    label: Label = Field(description="OK, NG, or NG:TYPE")


class CorrectionEntry(ResponseBody):
    """One correction."""

    number: int
    ng: bool
    kind: str
    file: str
    who: str
    when: str
    before: str
    undone: bool


class EffectOnOthers(ResponseBody):
    """What a correction does to other parts."""

    beyond_copies: bool = Field(description="whether corrections act beyond near copies of their photographs")
    ng_parts: int = Field(description="known NG parts that had no part in it")
    missed_before: int
    missed_after: int


class CorrectionResult(ResponseBody):
    """A correction, and the verdict that follows from it."""

    lesson: CorrectionEntry
    before: str
    after: JudgedPhoto
    effect: EffectOnOthers


def judge_routes(state: AppState) -> APIRouter:
    """Return the routes of photographs and of the judge."""
    routes = APIRouter(tags=["judging"])

    @routes.post("/photos", response_model=list_model("photos", UploadedPhoto))
    async def upload(photos: PhotoFiles) -> dict[str, Any]:
        """Store photographs for this session, without judging them."""
        return {"photos": [vars(each) for each in await state.io_worker.run(_store, state, photos)]}

    @routes.post("/judge", response_model=list_model("verdicts", JudgedPhoto))
    async def judge(photos: PhotoFiles, cases: Annotated[int, Query(ge=0, le=20)] = 0) -> dict[str, Any]:
        """Judge photographs: OK or NG, score and p-value, reason and anomaly map."""
        uploads = await state.io_worker.run(_store, state, photos)
        # One call for each photograph, so that requests of others are served in between.
        return {
            "verdicts": [await state.model_worker.run(_judge, state, upload, cases) for upload in uploads]
        }

    @routes.get("/photos/{photo}/picture", response_class=Response)
    async def picture(photo: PhotoIdInPath) -> Response:
        """A photograph at the size at which it is judged."""
        return png_response(await state.model_worker.run(_picture, state, state.uploads.get(photo)))

    @routes.get("/judge/histogram")
    async def histogram() -> ScoreHistogram:
        """The scores of the OK parts that set the threshold."""
        return await state.model_worker.run(_histogram, state)

    @routes.get("/examples", response_model=list_model("examples", ExamplePart))
    async def examples() -> dict[str, Any]:
        """The parts that photographs are compared with."""
        examples = (await state.model_worker.run(state.inspector)).references
        parts = enumerate(zip(examples.names, examples.labels, strict=True))
        return {"examples": [{"example": row, "name": name, "kind": kind} for row, (name, kind) in parts]}

    @routes.get("/examples/{example}/picture", response_class=Response)
    async def example_picture(example: Index) -> Response:
        """The picture of one of these parts."""
        examples = (await state.model_worker.run(state.inspector)).references
        if example >= len(examples.names):
            raise NotFoundError(f"example {example}: there are {len(examples.names)}, counted from 0")
        return png_response(encode_png(examples.thumbnail(example)))

    @routes.post("/teach")
    async def correct(body: CorrectionRequest) -> CorrectionResult:
        """Correct the verdict of a photograph; it holds from the next judgement on."""
        return await state.model_worker.run(_correct, state, state.uploads.get(body.photo), body.label)

    @routes.post("/teach/{lesson}/undo", response_model=CorrectionEntry)
    async def undo_correction(lesson: Index) -> dict[str, Any]:
        """Undo a correction."""
        return await state.model_worker.run(_undo, state, lesson)

    @routes.get("/lessons", response_model=list_model("lessons", CorrectionEntry))
    async def corrections() -> dict[str, Any]:
        """All corrections in order, including undone ones."""
        entries = await state.io_worker.run(read_corrections, state.folder)
        return {"lessons": [entry.to_dict() for entry in entries]}

    return routes


def _store(state: AppState, photos: Sequence[UploadFile]) -> list[Upload]:
    if len(photos) > state.limits.files:
        raise RequestTooLargeError(f"{len(photos)} photographs at once; send at most {state.limits.files}")
    return [state.uploads.add(photo.filename, photo.file) for photo in photos]


def _judge(state: AppState, upload: Upload, cases: int) -> JudgedPhoto:
    inspector = state.inspector()
    if upload.problem:
        verdict = Verdict(Photo(Path(upload.file), None, upload.problem), "unreadable")
    else:
        verdict = inspector.judge_file(upload.path, anomaly_map=True)
    return _answer(state, inspector, verdict, upload, cases)


def _answer(
    state: AppState, inspector: Inspector, verdict: Verdict, upload: Upload, cases: int = 0
) -> JudgedPhoto:
    row = verdict.to_dict() | {"file": upload.file}
    if verdict.photo.pixels is None:
        return JudgedPhoto(**row)
    correction = inspector.correction_of(verdict.photo)
    height, width = verdict.photo.pixels.shape[:2]
    return JudgedPhoto(
        **row,
        photo=upload.photo,
        height=height,
        width=width,
        heat=None if verdict.anomaly_map is None else _heat_map(verdict.anomaly_map),
        ok_example=_index(inspector.references.names, verdict.like_ok),
        ng_example=_index(inspector.references.names, verdict.like_ng),
        because=verdict.because,
        lesson=None if correction is None else correction.number,
        cases=[CaseRow(**case) for case in similar_cases(state, verdict, cases)] if cases else [],
    )


def _heat_map(anomaly_map: NDArray[np.float32]) -> HeatMap:
    rows, columns = anomaly_map.shape
    values = np.nan_to_num(anomaly_map.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    return HeatMap(rows=rows, columns=columns, values=np.round(values, 4).tolist())


def _index(names: Sequence[str], name: str) -> int | None:
    return names.index(name) if name and name in names else None


def _picture(state: AppState, upload: Upload) -> bytes:
    extractor = state.run_memory().photo_encoder.extractor
    photo = read_photo(upload.path, extractor.frame, extractor.channels)
    if photo.pixels is None:
        raise InputError(f"{upload.file}: {photo.problem}")
    return encode_png(photo.pixels)


def _histogram(state: AppState) -> ScoreHistogram:
    inspector = state.inspector()
    scores = np.asarray(inspector.judge.calibration_scores, np.float64)
    counts, edges = np.histogram(scores[np.isfinite(scores)], BINS)
    threshold = inspector.judge.threshold
    return ScoreHistogram(
        edges=edges.tolist(),
        counts=counts.tolist(),
        threshold=None if threshold is None else threshold.value,
        false_reject=float(inspector.metadata["false_reject"]),
    )


def _correct(state: AppState, upload: Upload, label: str) -> CorrectionResult:
    check_label(label)
    with state.changing(), upload.name_in_errors():
        inspector = state.inspector()
        entry, before, after, effect = teach_judge(
            inspector, upload.path, label, name=upload.file, anomaly_map=True
        )
    return CorrectionResult(
        lesson=CorrectionEntry(**entry.to_dict()),
        before=before.verdict,
        after=_answer(state, inspector, after, upload),
        effect=EffectOnOthers(**effect.to_dict()),
    )


def _undo(state: AppState, number: int) -> dict[str, Any]:
    with state.changing():
        return undo(state.folder, number).to_dict()
