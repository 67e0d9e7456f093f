"""`Inspector`: an eye and a calibrated judge in a run folder. Photographs in, verdicts out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file

from mekiki.datasets.decoding import has_colour
from mekiki.errors import InputError
from mekiki.files import replaced_folder, settle_folder
from mekiki.inspection.eyes import BackboneEye, EmbedderEye, Eye
from mekiki.inspection.files import Photograph, content_of, gather, photographs
from mekiki.inspection.lessons import LessonBook
from mekiki.judging import Judge, TradeOff, learn_share, parts_needed, trade_off
from mekiki.progress import Progress, silent
from mekiki.runs import Run, finite, write_json

FOLDER = "judge"
FORMAT = "mekiki-judge/1"
THUMBNAIL = 64
"""Pixels on the longer side of the examples that are kept."""
DIRECTIONS = 64
"""In which examples are compared: enough to find the one that is alike, and little to keep."""
_MOST_EXAMPLES = 2000


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
        kind: the kind of defect it resembles most, for NG parts where NG examples were given or taught.
        like_ok: the OK example it resembles most.
        like_ng: the NG example it resembles most; empty where there is none.
        problem: why it could not be read.
        pixels: as the judge saw it.
        places: float32 `[h, w]`, where it departs.
        views: what the eye saw, one row each.
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
    pixels: NDArray[np.uint8] | None = None
    places: NDArray[np.float32] | None = None
    views: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def finite_row(self) -> dict[str, Any]:
        """The same with `None` for what is no number, for JSON."""
        told: dict[str, Any] = finite(self.row())
        return told

    def row(self) -> dict[str, Any]:
        """The verdict as a row of a table."""
        return {
            "file": str(self.path),
            "verdict": self.verdict,
            "score": self.score,
            "p": self.p,
            "threshold": self.threshold,
            "why": self.why,
            "kind": self.kind,
            "like_ok": self.like_ok,
            "like_ng": self.like_ng,
            "problem": self.problem,
        }


@dataclass(frozen=True, eq=False)
class Examples:
    """Parts kept to be compared with.

    Attributes:
        names: where each came from.
        kinds: `"OK"`, or the kind of defect.
        vectors: float32 `[n, r]`, where they lie in the r directions in which they differ most.
        directions: float32 `[d, r]`, these directions in the judge's common space.
        thumbnails: uint8 `[n, h, w]` or `[n, h, w, 3]`.
    """

    names: list[str]
    kinds: list[str]
    vectors: NDArray[np.float32]
    directions: NDArray[np.float32]
    thumbnails: NDArray[np.uint8]


@dataclass(frozen=True)
class Costs:
    """What wrong verdicts cost, in one unit.

    Attributes:
        escape: of an NG part that is passed.
        overkill: of an OK part that is rejected.
        ng_share: share of NG parts on the line; `None` is that of the photographs.
    """

    escape: float
    overkill: float = 1.0
    ng_share: float | None = None


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a calibration came to, for telling.

    Attributes:
        facts: numbers for JSON.
        guarantee: what is promised, in a sentence.
        notes: what is noteworthy.
        trade_off: both errors at every threshold, where NG parts were given.
    """

    facts: dict[str, Any]
    guarantee: str
    notes: list[str]
    trade_off: TradeOff | None


class Inspector:
    """A calibrated judge with its eye; made by `calibrate`, opened by `Inspector.open`.

    Attributes:
        folder: the run folder.
        eye: what photographs are looked at with.
        judge: what decides.
        examples: OK and NG parts to compare with.
        lessons: what people taught.
        facts: how it was calibrated.
    """

    def __init__(
        self, folder: Path, eye: Eye, judge: Judge, examples: Examples, facts: dict[str, Any]
    ) -> None:
        self.folder, self.eye, self.judge, self.examples, self.facts = folder, eye, judge, examples, facts
        self.lessons = LessonBook(folder)
        self.reload_lessons()

    @classmethod
    def open(cls, folder: Path) -> Inspector:
        """Open the calibrated judge of a run folder.

        Raises:
            InputError: there is none, its files do not fit together, or its eye has changed since.
        """
        place = folder / FOLDER
        settle_folder(place)
        path = place / "judge.json"
        if not path.is_file():
            raise InputError(f"{folder}: is not calibrated; `mekiki calibrate {folder} --ok FOLDER` does it")
        try:
            facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            arrays = load_file(place / "judge.safetensors")
        except Exception as error:  # damaged files raise nearly anything
            raise InputError(f"{place}: cannot be read ({error}); calibrate again") from None
        if facts.get("format") != FORMAT:
            raise InputError(
                f"{path}: is of format {facts.get('format')}, and this mekiki reads {FORMAT}; calibrate again"
            )
        eye = make_eye(folder, facts["eye"]["name"])
        if eye_fingerprint(eye) != facts["eye"]["fingerprint"]:
            raise InputError(
                f"{folder}: its {'backbone' if isinstance(eye, BackboneEye) else 'network'} has changed since it was "
                "calibrated; calibrate again"
            )
        eye.restore(_under(arrays, "eye/"))
        judge = Judge.from_state(_under(arrays, "judge/"), facts["judge"])
        examples = Examples(
            facts["examples"]["names"],
            facts["examples"]["kinds"],
            arrays["examples/vectors"],
            arrays["examples/directions"],
            arrays["examples/thumbnails"],
        )
        return cls(folder, eye, judge, examples, facts)

    def reload_lessons(self) -> None:
        """Put what has been taught in force; called when the book has changed."""
        self.judge.teach(self.lessons.in_force(self.judge.names))
        self._taught = {entry.content: entry for entry in self.lessons.entries() if not entry.undone}

    def judge_files(
        self, paths: Sequence[Path], *, where: bool = False, progress: Progress = silent
    ) -> Iterator[Verdict]:
        """Verdicts on files, in order, as a stream; a file that cannot be read gets one too.

        Args:
            paths: the files.
            where: also say where each NG part departs, if that costs extra looks.
            progress: told after each block.
        """
        done = 0
        for block in photographs(paths, self.eye.size, self.eye.channels):
            yield from self._judge_block(block, where)
            done += len(block)
            progress("judging", done, len(paths))

    def judge_one(self, path: Path, *, where: bool = False) -> Verdict:
        """The verdict on one file."""
        return next(self.judge_files([path], where=where))

    def _judge_block(self, block: Sequence[Photograph], where: bool) -> list[Verdict]:
        pixels = [one.pixels for one in block if one.pixels is not None]
        if not pixels:
            return [Verdict(one.path, "unreadable", problem=one.problem) for one in block]
        stack = np.stack(pixels)
        sight = self.eye.see(stack)
        said = self.judge.judge(sight.views)
        places = sight.places
        if where and places is None:
            places = np.zeros((len(stack), 1, 1), np.float32)
            look = np.flatnonzero(said.ng)
            if len(look):
                seen = self.eye.see(stack[look], self.judge.score).places
                if seen is not None:
                    places = np.zeros((len(stack), *seen.shape[1:]), np.float32)
                    places[look] = seen
        z = said.whitened @ self.examples.directions
        threshold = getattr(self.judge.threshold, "value", float("nan"))
        foremost = said.foremost()
        verdicts = []
        row = 0
        for one in block:
            if one.pixels is None:
                verdicts.append(Verdict(one.path, "unreadable", problem=one.problem))
                continue
            like_ok, like_ng, kind = self._alike(z[row])
            verdict, why = ("NG" if said.ng[row] else "OK"), foremost[row]
            entry = self._taught.get(one.content)
            if why == "lessons" and said.ng[row]:
                lesson = self.judge.lessons[said.lesson[row]]
                why, kind = f"like {lesson.note}", lesson.note.partition(" (")[0]
            if entry is not None:
                verdict, why = ("NG" if entry.ng else "OK"), f"taught: {entry.note}"
                kind = entry.kind if entry.ng else ""
            verdicts.append(
                Verdict(
                    one.path,
                    verdict,
                    float(said.score[row]),
                    float(said.p[row]),
                    float(threshold),
                    why,
                    kind if verdict == "NG" else "",
                    like_ok,
                    like_ng,
                    "",
                    one.pixels,
                    None if places is None else places[row],
                    {name: view[row] for name, view in sight.views.items()},
                )
            )
            row += 1
        return verdicts

    def _alike(self, vector: NDArray[np.float32]) -> tuple[str, str, str]:
        """The nearest OK and NG examples, and the kind of the latter."""
        if not len(self.examples.names):
            return "", "", ""
        apart = np.square(self.examples.vectors - vector).sum(axis=1)
        ng = np.array([kind != "OK" for kind in self.examples.kinds])
        ok_place = int(np.argmin(np.where(ng, np.inf, apart)))
        if not ng.any():
            return self.examples.names[ok_place], "", ""
        ng_place = int(np.argmin(np.where(ng, apart, np.inf)))
        return self.examples.names[ok_place], self.examples.names[ng_place], self.examples.kinds[ng_place]

    def write(self, calibration: Calibration) -> None:
        """Write the judge into its run folder in one step; what was taught stays."""
        arrays, facts = self.judge.state()
        self.facts = calibration.facts | {
            "format": FORMAT,
            "guarantee": calibration.guarantee,
            "notes": calibration.notes,
            "judge": facts,
            "eye": {"name": self.eye.name, "fingerprint": eye_fingerprint(self.eye)},
            "examples": {"names": self.examples.names, "kinds": self.examples.kinds},
        }
        every = {f"judge/{name}": array for name, array in arrays.items()}
        every |= {f"eye/{name}": array for name, array in self.eye.arrays().items()}
        every |= {
            "examples/vectors": self.examples.vectors,
            "examples/directions": self.examples.directions,
            "examples/thumbnails": self.examples.thumbnails,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        with replaced_folder(self.folder / FOLDER) as new:
            save_file(
                {name: np.ascontiguousarray(array) for name, array in every.items()},
                new / "judge.safetensors",
            )
            write_json(new / "judge.json", self.facts)


def make_eye(folder: Path, encoder: str | None) -> Eye:
    """The eye that a name means: `hf:…`, or the trained network of the run.

    Raises:
        InputError: there is no such backbone, or no trained run in the folder.
    """
    if encoder is not None and encoder.startswith("hf:"):
        from mekiki.backbones import Backbone

        return BackboneEye(Backbone.load(encoder))
    if encoder not in (None, "embedder"):
        raise InputError(f"encoder {encoder}: give hf:NAME_OR_FOLDER, or a run that `mekiki train` made")
    return EmbedderEye(Run(folder).open().embedder())


def eye_fingerprint(eye: Eye) -> str:
    """What tells one eye from another that gives other numbers."""
    if isinstance(eye, BackboneEye):
        return eye.fingerprint
    if isinstance(eye, EmbedderEye):
        vectors = eye.embedder.reference_vectors_
        return content_of(np.ascontiguousarray(vectors).view(np.uint8))
    raise InputError(f"{eye.name}: is no eye that can be known again")


def calibrate_run(
    folder: Path,
    ok: Sequence[Path],
    ng: Sequence[Path] = (),
    *,
    encoder: str | None = None,
    eye: Eye | None = None,
    false_reject: float = 0.01,
    confidence: float | None = None,
    costs: Costs | None = None,
    how: str = "sum",
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[Inspector, Calibration]:
    """Make or renew the calibrated judge of a run folder from photographs of OK parts.

    Of the OK photographs, dealt at random, two thirds (or what the rate leaves) teach what good parts look like and the
    others set the threshold; where they are too few for both, they do both in turn (CV+). Photographs that the run
    itself learnt from are left out, and of copies all but one.

    Args:
        folder: a trained run; or, with `encoder`, a folder that may be new.
        ok: photographs of OK parts, or folders of them.
        ng: of NG parts; sub-folders are kinds of defects. They do not move the threshold: they show what it misses.
        encoder: `hf:NAME_OR_FOLDER`; `None` takes the run's own network.
        eye: what to look with instead.
        false_reject: share of OK parts that may be rejected.
        confidence: how surely; `None` is on average.
        costs: of wrong verdicts; the rate is then the one that costs least on these photographs, and a threshold
            chosen so is an estimate, no promise. Takes NG photographs, and OK photographs enough for `false_reject`.
        how: how views are joined; see `Judge`.
        seed: of the deal.
        progress: told during long steps.

    Raises:
        InputError: too few OK photographs for the rate; the message says how many it takes. Or costs without NG
            photographs.
    """
    if costs is not None and not ng:
        raise InputError("costs take NG photographs too, to see what is missed at which rate; give --ng")
    parts_needed(false_reject, confidence)  # refuses a rate that is none, before anything is read
    ok_paths, ng_paths = gather(ok), gather(ng) if ng else []
    eye = eye or make_eye(folder, encoder)
    notes: list[str] = []
    # A first pass counts what can be read and what is new: the deal must know its number.
    kept, pixels_of = _usable(ok_paths, eye, notes, progress)
    order = np.random.default_rng(seed).permutation(len(kept))
    kept = [kept[i] for i in order]
    learning = learn_share(len(kept), false_reject, confidence)
    if learning == 0 and confidence is not None:
        needed = parts_needed(false_reject, confidence)
        raise InputError(
            f"{len(kept)} OK parts are too few: {needed} must calibrate to be {100 * confidence:.4g} % sure, and at "
            f"least {max(8, needed // 4)} more teach; give more, or leave out the confidence"
        )
    learners = kept[:learning] if learning else kept
    eye.learn(pixels_of(learners))
    names = [str(path) for path in kept]
    views = _seen(eye, kept, pixels_of, "looking at OK parts", progress)
    judge = Judge(how)
    if learning:
        judge.fit({name: view[:learning] for name, view in views.items()})
        calibrating = {name: view[learning:] for name, view in views.items()}
        threshold: Any = judge.calibrate(calibrating, false_reject, confidence=confidence)
    else:
        threshold = judge.across(views, false_reject)
        notes.append(
            f"{len(kept)} OK parts are too few to teach some and calibrate with others, so all do both (CV+)"
        )
    ng_kept, ng_pixels = _usable(ng_paths, eye, notes, progress) if ng_paths else ([], pixels_of)
    kinds = _kinds(ng_kept, ng)
    thumbs = [
        _thumbnail(image) for path in kept[:_MOST_EXAMPLES] for block in pixels_of([path]) for image in block
    ]
    vectors = [judge.whitened({name: view[:_MOST_EXAMPLES] for name, view in views.items()})]
    curve = None
    facts: dict[str, Any] = {
        "ok_parts": len(kept),
        "learnt_from": len(learners),
        "calibrated_on": len(kept) - learning if learning else len(kept),
        "method": "split" if learning else "cross",
        "false_reject": false_reject,
        "confidence": confidence,
        "threshold": getattr(threshold, "value", None),
        "ok": names,
        "seed": seed,
        "how": how,
        "places": [str(place) for place in ok],
        "ng_places": [str(place) for place in ng],
    }
    if learning:
        low, high = threshold.realised()
        facts["realised_between"] = [low, high]
    else:
        facts["proven_at_most"] = threshold.worst_case
    if ng_kept:
        ng_views = _seen(eye, ng_kept, ng_pixels, "looking at NG parts", progress)
        said = judge.judge(ng_views)
        own = judge.calibration_scores
        curve = trade_off(own, said.score)
        if costs is not None:
            best = curve.cheapest(costs.escape, costs.overkill, ng_share=costs.ng_share)
            rate = (float(np.sum(own > best.threshold)) + 1) / (len(own) + 1)
            threshold = judge.state_rate(min(rate, 1 - 1 / (len(own) + 1)))
            said = judge.judge(ng_views)
            facts |= {
                "false_reject": threshold.false_reject,
                "threshold": getattr(threshold, "value", None),
                "cost_per_part": best.cost,
                "cost_between": list(best.cost_interval),
                "ng_share": best.ng_share,
            }
            notes.append(
                f"the rate of {100 * threshold.false_reject:.3g} % was chosen by its costs on these photographs, so it "
                "is an estimate and no promise"
            )
        facts["ng_parts"] = len(ng_kept)
        facts["missed"] = float(1 - said.ng.mean())
        facts["auroc"] = curve.auroc()
        facts["missed_by_kind"] = {
            kind: float(1 - said.ng[np.array(kinds) == kind].mean()) for kind in sorted(set(kinds))
        }
        thumbs += [_thumbnail(image) for path in ng_kept for block in ng_pixels([path]) for image in block]
        vectors.append(judge.whitened(ng_views))
    whitened = np.concatenate(vectors)
    directions = foremost_directions(whitened)
    examples = Examples(
        names[:_MOST_EXAMPLES] + [str(path) for path in ng_kept],
        ["OK"] * min(len(names), _MOST_EXAMPLES) + kinds,
        whitened @ directions,
        directions,
        without_idle_colour(np.stack(thumbs)),
    )
    calibration = Calibration(facts, threshold.guarantee, notes, curve)
    inspector = Inspector(folder, eye, judge, examples, facts)
    inspector.write(calibration)
    return inspector, calibration


def _usable(paths: Sequence[Path], eye: Eye, notes: list[str], progress: Progress) -> tuple[list[Path], Any]:
    """The files that can be read, each content once, none that the eye learnt from; and a way to their pixels."""
    from mekiki.images import content_hashes

    learnt: set[int] = set()
    if isinstance(eye, EmbedderEye):
        learnt = set(eye.embedder.reference_contents_.tolist())
    kept: list[Path] = []
    content: set[str] = set()
    stored: dict[Path, NDArray[np.uint8]] = {}
    bad, copies, known, done = [], 0, 0, 0
    for block in photographs(paths, eye.size, eye.channels):
        for one in block:
            if one.pixels is None:
                bad.append(f"{one.path} ({one.problem})")
            elif one.content in content:
                copies += 1
            elif learnt and int(content_hashes(one.pixels[None])[0]) in learnt:
                known += 1
            else:
                content.add(one.content)
                kept.append(one.path)
                stored[one.path] = one.pixels
        done += len(block)
        progress("reading photographs", done, len(paths))
    if bad:
        notes.append(
            f"{len(bad)} of {len(paths)} files cannot be read: {'; '.join(bad[:3])}{'; …' if len(bad) > 3 else ''}"
        )
    if copies:
        notes.append(f"{copies} of {len(paths)} photographs are copies of others, and are left out")
    if known:
        notes.append(
            f"{known} of {len(paths)} photographs are left out, because the run learnt from them: it would judge them "
            "too kindly"
        )
    if not kept:
        raise InputError(
            f"none of {len(paths)} photographs can be used: {notes[-1] if notes else 'they are empty'}"
        )

    def blocks(wanted: Sequence[Path]) -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(wanted), 64):
            yield np.stack([stored[path] for path in wanted[start : start + 64]])

    return kept, blocks


def _seen(
    eye: Eye, paths: Sequence[Path], pixels_of: Any, label: str, progress: Progress
) -> dict[str, NDArray[np.float32]]:
    parts: dict[str, list[NDArray[np.float32]]] = {}
    done = 0
    for pixels in pixels_of(paths):
        for name, view in eye.see(pixels).views.items():
            parts.setdefault(name, []).append(view)
        done += len(pixels)
        progress(label, done, len(paths))
    return {name: np.concatenate(views) for name, views in parts.items()}


def _kinds(paths: Sequence[Path], places: Sequence[Path]) -> list[str]:
    """The kind of defect of each file: the name of the sub-folder it lies in, or of the folder that was given."""
    kinds = []
    for path in paths:
        place = next((place for place in places if place in path.parents), path.parent)
        inside = path.relative_to(place).parts if place in path.parents else ()
        kinds.append(inside[0] if len(inside) > 1 else place.name or "NG")
    return kinds


def _thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    shrink = min(1.0, THUMBNAIL / max(pixels.shape[:2]))
    size = (max(1, round(pixels.shape[1] * shrink)), max(1, round(pixels.shape[0] * shrink)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX), np.uint8)


def foremost_directions(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The directions in which vectors `[n, d]` differ most, float32 `[d, r]`, r ≤ `DIRECTIONS`, as PCA has them."""
    centred = (vectors - vectors.mean(axis=0)).astype(np.float64)
    if len(vectors) <= vectors.shape[1]:  # by way of the smaller of the two matrices
        values, left = np.linalg.eigh(centred @ centred.T)
        kept = np.flatnonzero(values > 1e-9 * max(values[-1], 1e-300))[-DIRECTIONS:]
        return np.asarray(centred.T @ (left[:, kept] / np.sqrt(values[kept])), np.float32)
    return np.asarray(np.linalg.eigh(centred.T @ centred)[1][:, -DIRECTIONS:], np.float32)


def without_idle_colour(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`[N, h, w, 3]` → `[N, h, w]` where all three channels are alike."""
    if pixels.ndim == 4 and not has_colour(pixels):
        return np.ascontiguousarray(pixels[..., 0])
    return pixels


def _under(arrays: dict[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
