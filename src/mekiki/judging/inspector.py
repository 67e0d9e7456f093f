"""`Inspector`: an eye and a calibrated judge in a run folder. Photographs in, verdicts out."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save_file

from mekiki.console import Progress, silent
from mekiki.data.image_set import Pixels
from mekiki.data.photo import Conditions, Photo, iter_photos, pixel_hash
from mekiki.embedder import Embedder
from mekiki.errors import DataWarning, InputError
from mekiki.judging.conformal import parts_needed
from mekiki.judging.corrections import CorrectionLog, Entry
from mekiki.judging.defect_types import DefectTypeClassifier
from mekiki.judging.features import (
    BackboneExtractor,
    EmbedderExtractor,
    FeatureExtractor,
    Features,
    ScatteringExtractor,
)
from mekiki.judging.judge import CORRECTIONS, Judge, TaughtPart
from mekiki.judging.trade_off import TradeOff
from mekiki.report.figures.charts import save
from mekiki.report.figures.judge_figures import score_histogram, trade_off_curve
from mekiki.storage.atomic import recover_folder
from mekiki.storage.lock import hold_lock
from mekiki.storage.manifest import Manifest, check_format, read_consistently, replace_folder_with_manifest
from mekiki.storage.run import Run, finite, write_json
from mekiki.storage.run_folder import JUDGE, JUDGE_ARRAYS, JUDGE_FORMAT, JUDGE_SETTINGS

Because = Literal["view", "lesson", "taught"]
KINDS_BY: dict[str, dict[str, Any]] = {
    "mean": {"anchor": "mean"},
    "examples": {"anchor": "each", "metric": "euclidean"},
}
"""How the kind of a defect may be told: `DefectTypeClassifier` with these settings."""
NONE_OF_THESE = 0.05
"""Share of the NG parts of known kinds that may be said to be of none of them."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """What is said of one photograph.

    Attributes:
        path: the file.
        verdict: `"OK"`, `"NG"` or `"unreadable"`.
        score: distance from good, never clamped; NaN if unreadable.
        p: how ordinary it would be as an OK part; NG means at most the stated rate.
        threshold: of the score; NaN where a p-value across models decides.
        why: the view that is most surprised, or the lesson that decided.
        kind: the kind of defect it resembles, or "none of these", for NG parts where NG examples were given or taught.
        like_ok: the OK example it resembles most.
        like_ng: the NG example it resembles most; empty where there is none.
        problem: why it could not be read.
        note: what sets the photograph apart from those calibrated on, such as its size.
        pixels: as the judge saw it.
        places: float32 `[h, w]`, where it departs.
        views: what the eye saw, one row each.
        because: what `why` names: a view, a lesson that it is like, or what this very photograph was taught as.
    """

    path: Path
    verdict: str
    score: float = float("nan")
    p: float = float("nan")
    threshold: float = float("nan")
    why: str = ""
    kind: str = ""
    like_ok: str = ""
    like_ng: str = ""
    problem: str = ""
    note: str = ""
    pixels: NDArray[np.uint8] | None = None
    places: NDArray[np.float32] | None = None
    views: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    because: Because = "view"

    def finite_row(self) -> dict[str, Any]:
        """The same with `None` for what is no number, for JSON."""
        told: dict[str, Any] = finite(self.row())
        return told

    def row(self) -> dict[str, Any]:
        """The verdict as a row of a table."""
        return {
            "file": writable(self.path),
            "verdict": self.verdict,
            "score": self.score,
            "p": self.p,
            "threshold": self.threshold,
            "why": self.why,
            "kind": self.kind,
            "like_ok": writable(self.like_ok),
            "like_ng": writable(self.like_ng),
            "problem": writable(self.problem),
            "note": self.note,
        }


@dataclass(frozen=True, eq=False)
class Examples:
    """Parts kept to be compared with.

    Attributes:
        names: where each came from.
        kinds: `"OK"`, or the kind of defect.
        vectors: float32 `[n, r]`, where they lie in the r directions in which they differ most.
        directions: float32 `[d, r]`, these directions in the judge's common space.
        thumbnails: uint8 `[n, h, w]` or `[n, h, w, 3]`, each in the upper left corner of its square.
        sizes: int64 `[n, 2]`, height and width of each there.
    """

    names: list[str]
    kinds: list[str]
    vectors: NDArray[np.float32]
    directions: NDArray[np.float32]
    thumbnails: NDArray[np.uint8]
    sizes: NDArray[np.int64]

    @cached_property
    def ng(self) -> NDArray[np.bool_]:
        """Which of them are NG, bool `[n]`."""
        return np.array([kind != "OK" for kind in self.kinds])

    def thumbnail(self, row: int) -> NDArray[np.uint8]:
        """One of them, uint8 `[h, w]` or `[h, w, 3]`."""
        height, width = self.sizes[row]
        return self.thumbnails[row, :height, :width]


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a calibration came to, for telling.

    Attributes:
        facts: numbers for JSON.
        guarantee: what is promised, in a sentence.
        notes: what is noteworthy.
        trade_off: both errors at every threshold, where NG parts were given.
        ng_scores: float64 `[m]`, the scores of these.
    """

    facts: dict[str, Any]
    guarantee: str
    notes: list[str]
    trade_off: TradeOff | None
    ng_scores: NDArray[np.float64]


class Inspector:
    """A calibrated judge with its eye; made by `calibrate`, opened by `Inspector.open`.

    Attributes:
        folder: the run folder.
        extractor: what photographs are looked at with.
        judge: what decides.
        examples: OK and NG parts to compare with.
        lessons: what people taught.
        namer: what names the kinds of defects; `None` without NG examples.
        facts: how it was calibrated.
        conditions: how the OK parts were photographed.
    """

    def __init__(
        self,
        folder: Path,
        extractor: FeatureExtractor,
        judge: Judge,
        examples: Examples,
        facts: dict[str, Any],
    ) -> None:
        self.folder, self.extractor, self.judge, self.examples, self.facts = (
            folder,
            extractor,
            judge,
            examples,
            facts,
        )
        self.conditions = Conditions(**{name: _fixed(value) for name, value in facts["conditions"].items()})
        self.lessons = CorrectionLog(folder)
        self.reload_lessons()

    @classmethod
    def open(cls, folder: Path) -> Inspector:
        """Open the calibrated judge of a run folder.

        Raises:
            InputError: there is none, its files do not fit together, or its eye has changed since.
        """
        recover_folder(folder / JUDGE)
        return read_consistently(folder / JUDGE, lambda: cls._opened(folder))

    @classmethod
    def _opened(cls, folder: Path) -> Inspector:
        place = folder / JUDGE
        path = place / JUDGE_SETTINGS
        if not path.is_file():
            raise InputError(f"{folder}: is not calibrated; `mekiki calibrate {folder} --ok FOLDER` does it")
        try:
            manifest = Manifest.of(place, mend="calibrate again")
            facts: dict[str, Any] = json.loads(manifest.read(JUDGE_SETTINGS))
            if not isinstance(facts, dict):
                raise ValueError("it holds no facts")
            arrays = load(manifest.read(JUDGE_ARRAYS))
        except InputError:
            raise
        except Exception as error:  # damaged files raise nearly anything
            raise InputError(f"{place}: cannot be read ({error}); calibrate again") from None
        check_format(path, facts.get("format"), JUDGE_FORMAT)
        if facts.get("format") != JUDGE_FORMAT:
            raise InputError(
                f"{path}: is of format {facts.get('format')}, and this mekiki reads {JUDGE_FORMAT}; calibrate again"
            )
        try:
            return cls._assembled(folder, facts, arrays)
        except InputError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{place}: does not hold all of a judge ({error}); calibrate again") from None

    @classmethod
    def _assembled(cls, folder: Path, facts: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Inspector:
        """What the two files say, put together."""
        extractor = make_extractor(folder, facts["eye"]["name"])
        if extractor.fingerprint != facts["eye"]["fingerprint"]:
            raise InputError(
                f"{folder}: what it looks with ({extractor.name}) has changed since it was calibrated; calibrate again"
            )
        extractor.restore(_under(arrays, "eye/"))
        judge = Judge.from_state(_under(arrays, "judge/"), facts["judge"])
        examples = Examples(
            facts["examples"]["names"],
            facts["examples"]["kinds"],
            arrays["examples/vectors"],
            arrays["examples/directions"],
            arrays["examples/thumbnails"],
            arrays["examples/sizes"],
        )
        return cls(folder, extractor, judge, examples, facts)

    def reload_lessons(self) -> None:
        """Put what has been taught in force; called when the book has changed."""
        lessons = self.lessons.in_force(self.judge.groups, self.extractor.fingerprint, self._views_of)
        self.judge.teach(lessons)
        self.namer = self._learn_kinds(lessons)
        self._taught = {entry.content: entry for entry in self.lessons.entries() if not entry.undone}

    def _views_of(self, path: Path) -> dict[str, NDArray[np.float32]]:
        ((one,),) = iter_photos([path], self.extractor.frame, self.extractor.channels)
        if one.pixels is None:
            raise InputError(f"{path}: {one.problem}")
        return {name: view[0] for name, view in self.extractor.extract([one.pixels]).views.items()}

    def lesson_on(self, verdict: Verdict) -> Entry | None:
        """The lesson in force on this very photograph."""
        return None if verdict.pixels is None else self._taught.get(pixel_hash(verdict.pixels))

    def judge_files(
        self, paths: Sequence[Path], *, where: bool = False, progress: Progress = silent
    ) -> Iterator[Verdict]:
        """Verdicts on files, in order, as a stream; a file that cannot be read gets one too.

        Args:
            paths: the files.
            where: also say where each NG part departs.
            progress: told after each block.
        """
        done = 0
        for block in iter_photos(paths, self.extractor.frame, self.extractor.channels):
            yield from self.judge_block(block, where)
            done += len(block)
            progress("judging", done, len(paths))

    def judge_one(self, path: Path, *, where: bool = False) -> Verdict:
        """The verdict on one file."""
        # To its end: a Ctrl-C while a stream is put away by the collector of garbage would be lost.
        (verdict,) = self.judge_files([path], where=where)
        return verdict

    def judge_block(self, block: Sequence[Photo], where: bool = False) -> Iterator[Verdict]:
        """Verdicts on photographs that have been read."""
        pixels = [one.pixels for one in block if one.pixels is not None]
        features = self.extractor.extract(pixels) if pixels else Features({})
        row = 0
        for one in block:
            if one.pixels is None:
                yield Verdict(one.path, "unreadable", problem=one.problem)
            else:
                yield self._verdict(one, one.pixels, features.only(row), where)
                row += 1

    def _verdict(self, one: Photo, pixels: Pixels, features: Features, where: bool) -> Verdict:
        said = self.judge.judge(features.views)
        vector = (said.whitened @ self.examples.directions)[0]
        ng, why, kind = bool(said.ng[0]), said.leading_groups()[0], ""
        because: Because = "view"
        entry = self._taught.get(one.content)
        if entry is not None:
            ng, why, kind, because = entry.ng, f"taught: {entry.note}", entry.kind, "taught"
        elif ng and why == CORRECTIONS:
            lesson = self.judge.taught[said.nearest[0]]
            why, kind, because = f"like {lesson.note}", kind_of(lesson), "lesson"
        elif ng and self.namer is not None:
            kind = str(self.namer.predict(vector[None])[0])
        like_ok, like_ng = self._alike(vector)
        return Verdict(
            one.path,
            "NG" if ng else "OK",
            float(said.score[0]),
            float(said.p[0]),
            self._threshold,
            why,
            kind,
            like_ok,
            like_ng,
            "",
            self.conditions.remark(one),
            pixels,
            self.extractor.where([pixels], features, self.judge)[0] if where and ng else None,
            {name: view[0] for name, view in features.views.items()},
            because,
        )

    @property
    def _threshold(self) -> float:
        """Of the score; NaN where the judge has no single one."""
        value = None if self.judge.threshold is None else self.judge.threshold.value
        return float("nan") if value is None else value

    def _alike(self, vector: NDArray[np.float32]) -> tuple[str, str]:
        """The nearest OK and NG examples; empty where there is none."""
        apart = np.square(self.examples.vectors - vector).sum(axis=1)
        ng = self.examples.ng
        ok_name = self.examples.names[int(np.argmin(np.where(ng, np.inf, apart)))]
        return ok_name, self.examples.names[int(np.argmin(np.where(ng, apart, np.inf)))] if ng.any() else ""

    def _learn_kinds(self, lessons: Sequence[TaughtPart]) -> DefectTypeClassifier | None:
        """What names the kind of a defect: from the NG examples, and kinds taught since; `None` without examples."""
        ng = np.flatnonzero(self.examples.ng)
        if not len(ng):
            return None
        enough = len(ng) >= parts_needed(NONE_OF_THESE)
        namer = DefectTypeClassifier(
            **KINDS_BY[self.facts["kinds_by"]], none_of_these=NONE_OF_THESE if enough else None
        )
        with warnings.catch_warnings():
            # Kinds of few examples are compared together; docs/inspection.md says so, once.
            warnings.simplefilter("ignore", DataWarning)
            namer.fit(self.examples.vectors[ng], [self.examples.kinds[row] for row in ng])
            for lesson in lessons:
                if lesson.ng:
                    vector = {name: view[None] for name, view in lesson.vectors.items()}
                    namer.add(self.judge.whiten(vector) @ self.examples.directions, kind_of(lesson))
        return namer

    def write(self, calibration: Calibration) -> None:
        """Write the judge into its run folder in one step; what was taught stays."""
        arrays, facts = self.judge.state()
        self.facts = calibration.facts | {
            "format": JUDGE_FORMAT,
            "guarantee": calibration.guarantee,
            "notes": calibration.notes,
            "judge": facts,
            "examples": {"names": self.examples.names, "kinds": self.examples.kinds},
        }
        every = {f"judge/{name}": array for name, array in arrays.items()}
        every |= {f"eye/{name}": array for name, array in self.extractor.arrays().items()}
        every |= {
            "examples/vectors": self.examples.vectors,
            "examples/directions": self.examples.directions,
            "examples/thumbnails": self.examples.thumbnails,
            "examples/sizes": self.examples.sizes,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        with hold_lock(self.folder, "calibrating"), replace_folder_with_manifest(self.folder / JUDGE) as new:
            save_file(
                {name: np.ascontiguousarray(array) for name, array in every.items()},
                new / JUDGE_ARRAYS,
            )
            write_json(new / JUDGE_SETTINGS, self.facts)
            self._draw(new, calibration)

    def _draw(self, folder: Path, calibration: Calibration) -> None:
        """Pictures of the calibration: `scores.png`, and `trade_off.png` where there are NG parts."""
        own = self.judge.calibration_scores
        value = self._threshold
        threshold = None if np.isnan(value) else value
        save(score_histogram(own, calibration.ng_scores, threshold), folder / "scores.png")
        curve = calibration.trade_off
        if curve is not None:
            errors = None if threshold is None else curve.at(threshold)
            chosen = None if errors is None else (errors.false_reject, errors.miss)
            save(trade_off_curve(curve.false_rejects, curve.misses, chosen), folder / "trade_off.png")


def writable(name: Path | str) -> str:
    r"""A file name as any file can hold it: bytes in it that are no text become escapes.

    Example:
        >>> writable("bad\udcff.png")
        'bad\\udcff.png'
    """
    return str(name).encode("utf-8", "backslashreplace").decode("utf-8")


def kind_of(lesson: TaughtPart) -> str:
    """The kind of defect that was taught, from the note that `Entry.note` made."""
    return lesson.note.partition(" (lesson ")[0]


def make_extractor(folder: Path, encoder: str | None) -> FeatureExtractor:
    """The eye that a name means; left out, the trained network of the run, or the filters where there is none.

    Args:
        folder: the run folder.
        encoder: `hf:NAME_OR_FOLDER`, `filters`, `embedder` (the network of the run), or `None`.

    Raises:
        InputError: there is no such backbone, or no trained run in the folder.
    """
    if encoder is not None and encoder.startswith("hf:"):
        from mekiki.models.backbone import Backbone

        return BackboneExtractor(Backbone.load(encoder))
    if encoder is None:
        run = Run(folder)
        encoder = "embedder" if run.complete or run.checkpoint.exists() else "filters"
    if encoder == "filters":
        return ScatteringExtractor()
    if encoder == "embedder":
        return EmbedderExtractor(Embedder.load(Run(folder).open().folder))
    raise InputError(f"encoder {encoder}: give hf:NAME_OR_FOLDER, filters, or embedder, the network of RUN")


def _fixed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _under(arrays: dict[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
