"""Calibration: from photographs of OK parts, and NG parts if there are any, to an `Inspector`."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.console import Progress, silent
from mekiki.data.decoding import read_header
from mekiki.data.image_set import Pixels, content_hashes
from mekiki.data.photo import BLOCK, MOST_BYTES, Photo, PhotoConditions, iter_photos, list_photos, read_again
from mekiki.errors import InputError
from mekiki.judging.conformal import Threshold, parts_needed
from mekiki.judging.detectors.patch_detectors import DETECTORS
from mekiki.judging.extractors import make_extractor
from mekiki.judging.feature_judge import Judge
from mekiki.judging.features import FeatureExtractor
from mekiki.judging.fine_scale import LEAST_DEFECT_PIXELS
from mekiki.judging.judge_model import DETECTOR_NAMES
from mekiki.judging.judge_photos import Calibration, Inspector
from mekiki.judging.learning_split import LEAST_TO_SPLIT, learning_parts
from mekiki.judging.reference_parts import choose_classifier, keep_references
from mekiki.judging.suspicious_photos import MOST_SHOWN, describe_left_out, list_suspicious
from mekiki.judging.trade_off import TradeOff
from mekiki.judging.used_detectors import describe_unused, used_detectors
from mekiki.judging.weigh_detectors import weigh_detectors
from mekiki.report.judge_page import SIDE
from mekiki.report.thumbnails import shrink
from mekiki.storage.run_folder import JUDGE, JUDGE_SUSPICIOUS

SMALL_BYTES = 2**20
"""Pixels of a photograph up to which it stays in memory, however many there are."""
KEPT_BYTES = 256 * 2**20
"""Pixels of larger ones that stay in memory; the others are read again when they are needed."""


@dataclass(frozen=True)
class MisclassificationCosts:
    """What wrong verdicts cost, in one unit.

    Attributes:
        escape: of an NG part that is passed.
        overkill: of an OK part that is rejected.
        ng_share: share of NG parts on the line; `None` is that of the photographs.
    """

    escape: float
    overkill: float = 1.0
    ng_share: float | None = None


@dataclass(frozen=True)
class CalibrationSettings:
    """How the threshold is set.

    Attributes:
        false_reject: share of OK parts that may be rejected.
        confidence: with which this rate holds; `None` is on average.
        costs: of wrong verdicts; the rate is then the one that costs least on the photographs, and a threshold chosen
            so is an estimate, no promise. Takes NG photographs, and OK photographs enough for `false_reject`.
        how: how feature groups are combined; see `Judge`.
        detectors: some of `DETECTOR_NAMES`; those that do not apply are named in a note. `None` takes all that apply.
        seed: of the split into parts to learn from and parts to calibrate with.
        keep_suspicious: let OK photographs teach that look as if they were NG. If not, those that set the threshold do
            so all the same, because without them more good parts would be rejected than stated.
        smallest_defect: side in pixels of the smallest defect to be found; `None` leaves it to the photographs' size.
    """

    false_reject: float = 0.01
    confidence: float | None = None
    costs: MisclassificationCosts | None = None
    how: str = "sum"
    detectors: tuple[str, ...] | None = None
    seed: int = 0
    keep_suspicious: bool = True
    smallest_defect: float | None = None


def calibrate_run(
    folder: Path,
    ok: Sequence[Path],
    ng: Sequence[Path] = (),
    *,
    encoder: str | None = None,
    without: Sequence[Path] = (),
    settings: CalibrationSettings | None = None,
    progress: Progress = silent,
) -> tuple[Inspector, Calibration]:
    """Calibrate a judge for a run folder from photographs of OK parts, and write it there.

    Args:
        folder: a trained run, or a folder that may be new.
        ok: photographs of OK parts, or folders of them.
        ng: of NG parts; sub-folders are defect types. They are learnt from, show what is missed, and whether
            corrections help; the threshold is set on OK parts alone.
        encoder: name of the feature extractor; see `make_extractor`.
        without: photographs in `ok` to leave out.
        settings: the rate and how it is held; by default 1 % on average.
        progress: called during long steps.

    Raises:
        InputError: too few OK photographs for the rate; the message says how many it takes. Or costs without NG
            photographs.
    """
    settings = settings or CalibrationSettings()
    if settings.costs is not None and not ng:
        raise InputError("costs take NG photographs too, to see what is missed at which rate; give --ng")
    if settings.smallest_defect is not None and not settings.smallest_defect >= 1:
        raise InputError(f"smallest defect {settings.smallest_defect:g}: give its side in pixels, 1 or more")
    if settings.seed < 0:
        raise InputError(f"seed {settings.seed}: give 0 or more")
    parts_needed(
        settings.false_reject, settings.confidence
    )  # refuses an invalid rate before anything is read
    ok_paths, ng_paths = list_photos(ok), list_photos(ng) if ng else []
    # Absolute, so that retraining finds them from any other folder.
    defect_types = {path.absolute(): _defect_type(path, ng) for path in ng_paths}
    ok_paths = _leave_out([path.absolute() for path in ok_paths], without)
    extractor = make_extractor(folder, encoder)
    inspector, calibration = fit_inspector(folder, extractor, ok_paths, defect_types, settings, progress)
    calibration.metadata["places"] = [str(place) for place in ok]
    inspector.write(calibration)
    return inspector, calibration


def fit_inspector(
    folder: Path,
    extractor: FeatureExtractor,
    ok: Sequence[Path],
    ng: Mapping[Path, str],
    settings: CalibrationSettings,
    progress: Progress = silent,
    trusted: Collection[str] = (),
) -> tuple[Inspector, Calibration]:
    """Calibrate a judge from files, without writing it.

    Of the OK photographs, in random order, two thirds (or what the rate leaves) are learnt from and the others set the
    threshold; if they are few, all do both (CV+), except where a confidence is asked for or there is a fine scale.
    Photographs that the run was trained on are left out, and of copies all but one.

    Args:
        folder: the run folder it is for.
        extractor: the feature extractor.
        ok: photographs of OK parts.
        ng: of NG parts, each with its defect type.
        settings: the rate and how it is held.
        progress: called during long steps.
        trusted: `Photo.content` of OK photographs that teach however suspicious they look.
    """
    # Refuses unknown names before photographs are read.
    asked = DETECTOR_NAMES if settings.detectors is None else settings.detectors
    judge = Judge(settings.how, detectors=asked, robust=not settings.keep_suspicious)
    notes: list[str] = []
    visible = _choose_scale(extractor, ok, settings, judge.detectors, notes)
    good = _usable_photos(ok, extractor, notes, progress)
    good = [good[i] for i in np.random.default_rng(settings.seed).permutation(len(good))]
    learning = _number_to_learn(len(good), settings, extractor)
    extractor.fit(_blocks(good[: learning or len(good)], extractor))
    groups = _extract(extractor, good, "looking at OK parts", progress)
    if not set(judge.detectors) & set(DETECTORS):
        groups = {name: group for name, group in groups.items() if group.ndim == 2}
    detectors = used_detectors(judge.detectors, groups, bool(ng))
    if settings.detectors is not None:
        notes += describe_unused(judge.detectors, detectors, extractor.description)
    sure = np.array([photo.content in trusted for photo in good])
    # A judge by the MT distance alone has nothing to weigh.
    weighs = settings.how == "sum" and any(group.ndim == 4 for group in groups.values())
    factors: list[dict[str, float]] = []  # of each model
    weigh = partial(_weigh, factors, judge, good, groups, extractor, settings.seed)
    if learning:
        judge.factors = weigh(np.arange(learning)) if weighs else {}
        judge.fit({name: group[:learning] for name, group in groups.items()}, sure[:learning])
        calibrating = {name: group[learning:] for name, group in groups.items()}
        threshold: Threshold = judge.calibrate(
            calibrating, settings.false_reject, confidence=settings.confidence
        )
    else:
        threshold = judge.cross_calibrate(groups, settings.false_reject, sure, weigh if weighs else None)
        notes.append(
            f"{len(good)} OK parts are too few to teach some and calibrate with others, so all do both (CV+)"
        )
    suspicious = [
        replace(each, photo=_with_small_pixels(each.photo, extractor)) if each.rank <= MOST_SHOWN else each
        for each in list_suspicious(judge, good, groups)
    ]
    left_out = [str(good[part].path) for part in np.flatnonzero(judge.left_out)]
    if left_out:
        page = folder / JUDGE / JUDGE_SUSPICIOUS
        notes.append(describe_left_out(left_out, learning or len(good), page))
    metadata: dict[str, Any] = {
        "ok_parts": len(good),
        "learnt_from": learning or len(good),
        "calibrated_on": len(good) - learning,
        "method": "split" if learning else "cross",
        "false_reject": settings.false_reject,
        "confidence": settings.confidence,
        "ok": [str(photo.path) for photo in good],
        "conditions": asdict(PhotoConditions.of(good)),
        "eye": {"name": extractor.name, "fingerprint": extractor.fingerprint},
        "ng": {str(path): defect_type for path, defect_type in ng.items()},
        "seed": settings.seed,
        "how": settings.how,
        "detectors": detectors,
        "detectors_asked": None if settings.detectors is None else list(judge.detectors),
        "weights": {
            name: float(np.mean([each.get(name, 1.0) for each in factors]))
            for name in dict.fromkeys(name for each in factors for name in each)
        },
        "keep_suspicious": settings.keep_suspicious,
        "left_out": left_out,
        "suspicious": [each.to_dict() for each in suspicious],
        "smallest_defect": settings.smallest_defect,
        "smallest_visible": visible,
    }
    ng_scores = np.zeros(0)
    curve = None
    parts = [(good, ["OK"] * len(good), groups)]
    if ng:
        bad = _usable_photos(list(ng), extractor, notes, progress)
        _refuse_contradictions(good, bad)
        defect_types = [ng[photo.path] for photo in bad]
        ng_groups = judge.select(_extract(extractor, bad, "looking at NG parts", progress))
        parts.append((bad, defect_types, ng_groups))
        judge.learn_ng(ng_groups)
        assert judge.threshold is not None
        threshold = judge.threshold
        ng_scores = judge.unseen_scores()
        curve = TradeOff.from_scores(judge.calibration_scores, ng_scores)
        if settings.costs is not None:
            threshold = _state_cheapest_rate(judge, curve, settings.costs, metadata, notes)
        missed = ~judge.judge_unseen().known
        metadata |= {
            "ng_parts": len(defect_types),
            "missed": float(missed.mean()),
            "auroc": curve.auroc(),
            "missed_by_kind": {
                each: float(missed[np.array(defect_types) == each].mean())
                for each in sorted(set(defect_types))
            },
        }
    metadata |= threshold.to_dict()
    parts[0] = _without(judge.left_out, *parts[0])
    references = keep_references(
        judge, parts, lambda photo: read_again(photo, extractor.frame, extractor.channels)
    )
    metadata["kinds_by"] = choose_classifier(references)
    inspector = Inspector(folder, extractor, judge, references, metadata)
    return inspector, Calibration(metadata, threshold.promise(), notes, curve, ng_scores, suspicious)


def _weigh(
    factors: list[dict[str, float]],
    judge: Judge,
    photos: Sequence[Photo],
    groups: Mapping[str, NDArray[Any]],
    extractor: FeatureExtractor,
    seed: int,
    rows: NDArray[np.int64],
) -> dict[str, float]:
    """Factors of the detectors, from those of the photographs that a model learns from; added to `factors`."""
    own = weigh_detectors(
        judge,
        {name: group[rows] for name, group in groups.items()},
        [partial(read_again, photos[row], extractor.frame, extractor.channels) for row in rows],
        partial(_extract_painted, extractor, list(groups)),
        seed,
    )
    factors.append(own)
    return own


def _leave_out(paths: list[Path], without: Sequence[Path]) -> list[Path]:
    """The paths without these.

    Raises:
        InputError: one of these is not among the paths.
    """
    for path in without:
        if path.absolute() not in paths:
            raise InputError(
                f"{path}: is not among the OK photographs, so it cannot be left out; give its full path"
            )
    left_out = {path.absolute() for path in without}
    return [path for path in paths if path not in left_out]


def _without(
    left_out: NDArray[np.bool_], photos: list[Photo], labels: list[str], groups: Mapping[str, NDArray[Any]]
) -> tuple[list[Photo], list[str], dict[str, NDArray[Any]]]:
    """OK parts without those left out, which no part is to be compared with; groups of vectors alone."""
    kept = np.ones(len(photos), np.bool_)
    kept[: len(left_out)] = ~left_out
    rows = np.flatnonzero(kept)
    vectors = {name: group[rows] for name, group in groups.items() if group.ndim == 2}
    return [photos[row] for row in rows], [labels[row] for row in rows], vectors


def _number_to_learn(parts: int, settings: CalibrationSettings, extractor: FeatureExtractor) -> int:
    """How many OK parts are learnt from; 0 where all do both."""
    least = 0 if extractor.fine is not None else LEAST_TO_SPLIT
    learning = learning_parts(parts, settings.false_reject, settings.confidence, least=least)
    if learning == 0 and extractor.fine is not None:
        # Files that cannot be read, or copies, made them too few after the scale was chosen.
        raise InputError(
            f"{parts} OK photographs are too few to be read at a fine scale, of which some must learn and others "
            "calibrate; give more, or a larger --smallest-defect"
        )
    if learning == 0 and settings.confidence is not None:
        needed = parts_needed(settings.false_reject, settings.confidence)
        raise InputError(
            f"{parts} OK parts are too few: {needed} must calibrate to be {100 * settings.confidence:.4g} % sure, and "
            f"at least {max(8, needed // 4)} more teach; give more, or leave out the confidence"
        )
    return learning


def _can_split(parts: int, settings: CalibrationSettings) -> bool:
    """Whether so many OK parts suffice for some to learn and others to calibrate."""
    try:
        return learning_parts(parts, settings.false_reject, settings.confidence, least=0) > 0
    except InputError:  # raised again, with the reasons, when the photographs have been read
        return False


def _state_cheapest_rate(
    judge: Judge, curve: TradeOff, costs: MisclassificationCosts, metadata: dict[str, Any], notes: list[str]
) -> Threshold:
    """Set the threshold of the judge to the rate that costs least."""
    best = curve.cheapest(costs.escape, costs.overkill, ng_share=costs.ng_share)
    own = judge.calibration_scores
    rate = (float(np.sum(own > best.threshold)) + 1) / (len(own) + 1)
    threshold = judge.set_rate(min(rate, 1 - 1 / (len(own) + 1)))
    metadata |= {
        "false_reject": threshold.false_reject,
        "cost_per_part": best.cost,
        "cost_between": list(best.cost_interval),
        "ng_share": best.ng_share,
    }
    notes.append(
        f"the rate of {100 * threshold.false_reject:.3g} % was chosen by its costs on these photographs, so it is an "
        "estimate and no promise"
    )
    return threshold


def _usable_photos(
    paths: Sequence[Path], extractor: FeatureExtractor, notes: list[str], progress: Progress
) -> list[Photo]:
    """The files that can be read, each content once, none that the extractor was trained on."""
    usable: dict[str, Photo] = {}
    unreadable = []
    copies, trained_on, done, kept = 0, 0, 0, 0
    for block in iter_photos(paths, extractor.frame, extractor.channels):
        for photo in block:
            if photo.pixels is None:
                unreadable.append(f"{photo.path} ({photo.problem})")
            elif photo.content in usable:
                copies += 1
            elif (
                extractor.training_contents
                and int(content_hashes(photo.pixels[None])[0]) in extractor.training_contents
            ):
                trained_on += 1
            else:
                large = photo.pixels.nbytes > SMALL_BYTES
                forget = large and kept + photo.pixels.nbytes > KEPT_BYTES
                kept += 0 if forget or not large else photo.pixels.nbytes
                usable[photo.content] = photo.without_pixels() if forget else photo
        done += len(block)
        progress("reading photographs", done, len(paths))
    if unreadable:
        notes.append(
            f"{len(unreadable)} of {len(paths)} files cannot be read: {'; '.join(unreadable[:3])}"
            f"{'; …' if len(unreadable) > 3 else ''}"
        )
    if copies:
        notes.append(f"{copies} of {len(paths)} photographs are copies of others, and are left out")
    if trained_on:
        notes.append(
            f"{trained_on} of {len(paths)} photographs are left out, because the run learnt from them: it would judge "
            "them too kindly"
        )
    if not usable:
        raise InputError(
            f"none of {len(paths)} photographs can be used: {notes[-1] if notes else 'they are empty'}"
        )
    return list(usable.values())


def _refuse_contradictions(good: Sequence[Photo], bad: Sequence[Photo]) -> None:
    ok = {photo.content: photo.path for photo in good}
    both = [(ok[photo.content], photo.path) for photo in bad if photo.content in ok]
    if both:
        more = f", and {len(both) - 1} more" if len(both) > 1 else ""
        raise InputError(
            f"{both[0][1]}: is given as NG, and the same photograph as OK ({both[0][0]}){more}; take it out of one"
        )


def _with_small_pixels(photo: Photo, extractor: FeatureExtractor) -> Photo:
    """A photograph to be shown; one whose pixels are no longer in memory gets them back, shrunk."""
    if photo.pixels is not None:
        return photo
    return replace(photo, pixels=shrink(read_again(photo, extractor.frame, extractor.channels), SIDE))


def _blocks(photos: Sequence[Photo], extractor: FeatureExtractor) -> Iterator[list[Pixels]]:
    """Pixels of readable photographs, a few at a time."""
    block: list[Pixels] = []
    for photo in photos:
        block.append(read_again(photo, extractor.frame, extractor.channels))
        if len(block) == BLOCK or sum(pixels.nbytes for pixels in block) >= MOST_BYTES:
            yield block
            block = []
    if block:
        yield block


def _extract(
    extractor: FeatureExtractor, photos: Sequence[Photo], label: str, progress: Progress
) -> dict[str, NDArray[np.float32]]:
    """The feature groups of photographs."""
    groups: dict[str, NDArray[np.float32]] = {}
    done = 0
    for pixels in _blocks(photos, extractor):
        for name, group in extractor.extract(pixels).groups.items():
            # Filled in place: patches of a thousand photographs take most of a gigabyte, and joining blocks twice that.
            if name not in groups:
                groups[name] = np.empty((len(photos), *group.shape[1:]), group.dtype)
            groups[name][done : done + len(group)] = group
        done += len(pixels)
        progress(label, done, len(photos))
    return groups


def _extract_painted(
    extractor: FeatureExtractor, names: Sequence[str], images: Iterable[Pixels]
) -> dict[str, NDArray[np.float32]]:
    """These feature groups of photographs, one at a time: painted ones are made as they are taken."""
    found = [extractor.extract([pixels]).groups for pixels in images]
    return {name: np.concatenate([groups[name] for groups in found]) for name in names}


def _choose_scale(
    extractor: FeatureExtractor,
    paths: Sequence[Path],
    settings: CalibrationSettings,
    detectors: Sequence[str],
    notes: list[str],
) -> int | None:
    """Let the extractor choose how many pixels it reads; the side of the smallest defect that can be seen then."""
    asked = settings.smallest_defect
    if not set(detectors) & set(DETECTORS):  # which has no use for it
        if asked is not None:
            notes.append(
                f"a smallest defect of {asked:g} px is not looked for: --detector {','.join(detectors)} reads every "
                "photograph at one size; it takes a detector on patches"
            )
        return None
    sizes = []
    for path in paths:
        with suppress(InputError):  # said when the photographs themselves are read
            header = read_header(path)
            sizes.append((header.height, header.width))
    if not sizes:
        return None
    visible = extractor.choose_scale(sizes, asked)
    if extractor.fine is not None and not _can_split(len(sizes), settings):
        # All models of CV+ would share the fine scale, which knows patches of the photographs it learnt from: these
        # would look better than those to come, and the threshold would be too low.
        visible = extractor.choose_scale(sizes, math.inf)
        notes.append(
            f"{len(sizes)} OK photographs are too few for a fine scale, of which some must learn and others calibrate"
        )
    if asked is not None and asked < visible:
        notes.append(
            f"defects of {asked:g} px cannot be seen in photographs of this size: those under {visible} px vanish"
        )
    elif visible > LEAST_DEFECT_PIXELS:
        notes.append(f"defects under {visible} px (of a photograph) vanish at this scale")
    return visible


def _defect_type(path: Path, places: Sequence[Path]) -> str:
    """The name of the sub-folder that a file lies in, or of the folder that was given."""
    place = next((place for place in places if place in path.parents), path.parent)
    inside = path.relative_to(place).parts if place in path.parents else ()
    return inside[0] if len(inside) > 1 else place.name or "NG"
