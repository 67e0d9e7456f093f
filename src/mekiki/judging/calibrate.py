"""Calibrating: from photographs of OK parts, and NG parts if there are any, to an `Inspector`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.console import Progress, silent
from mekiki.data.decoding import has_colour
from mekiki.data.image_set import Pixels, content_hashes
from mekiki.data.photo import BLOCK, Conditions, Photo, iter_photos, list_photos, pixel_hash
from mekiki.errors import InputError
from mekiki.judging.conformal import Threshold, parts_needed
from mekiki.judging.defect_types import DefectTypeClassifier
from mekiki.judging.features import EmbedderExtractor, FeatureExtractor
from mekiki.judging.inspector import KINDS_BY, Calibration, Examples, Inspector, make_extractor
from mekiki.judging.judge import Judge, learning_parts
from mekiki.judging.trade_off import TradeOff
from mekiki.report.thumbnails import shrink

THUMBNAIL = 64
"""Pixels on the longer side of the examples that are kept."""
DIRECTIONS = 128
"""In which examples are compared: enough to find the one that is alike, and little to keep."""
_FIFTHS = 5
MOST_EXAMPLES = 2000
"""OK parts that are kept to be compared with; NG parts are all kept."""


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


@dataclass(frozen=True)
class Terms:
    """On which terms parts are judged.

    Attributes:
        false_reject: share of OK parts that may be rejected.
        confidence: how surely; `None` is on average.
        costs: of wrong verdicts; the rate is then the one that costs least on the photographs, and a threshold chosen
            so is an estimate, no promise. Takes NG photographs, and OK photographs enough for `false_reject`.
        how: how views are joined; see `Judge`.
        seed: of the deal.
    """

    false_reject: float = 0.01
    confidence: float | None = None
    costs: Costs | None = None
    how: str = "sum"
    seed: int = 0


def calibrate_run(
    folder: Path,
    ok: Sequence[Path],
    ng: Sequence[Path] = (),
    *,
    encoder: str | None = None,
    terms: Terms | None = None,
    progress: Progress = silent,
) -> tuple[Inspector, Calibration]:
    """Make or renew the calibrated judge of a run folder from photographs of OK parts.

    Args:
        folder: a trained run, or a folder that may be new.
        ok: photographs of OK parts, or folders of them.
        ng: of NG parts; sub-folders are kinds of defects. They do not move the threshold: they show what it misses.
        encoder: what to look with; see `make_extractor`.
        terms: the rate and how it is held; by default 1 % on average.
        progress: told during long steps.

    Raises:
        InputError: too few OK photographs for the rate; the message says how many it takes. Or costs without NG
            photographs.
    """
    terms = terms or Terms()
    if terms.costs is not None and not ng:
        raise InputError("costs take NG photographs too, to see what is missed at which rate; give --ng")
    if terms.seed < 0:
        raise InputError(f"seed {terms.seed}: give 0 or more")
    parts_needed(terms.false_reject, terms.confidence)  # refuses a rate that is none, before anything is read
    ok_paths, ng_paths = list_photos(ok), list_photos(ng) if ng else []
    # Absolute, for retraining to find them from any other folder.
    kinds = dict(zip((path.absolute() for path in ng_paths), _kinds(ng_paths, ng), strict=True))
    ok_paths = [path.absolute() for path in ok_paths]
    extractor = make_extractor(folder, encoder)
    inspector, calibration = calibrated(folder, extractor, ok_paths, kinds, terms, progress)
    calibration.facts["places"] = [str(place) for place in ok]
    inspector.write(calibration)
    return inspector, calibration


def calibrated(
    folder: Path,
    extractor: FeatureExtractor,
    ok: Sequence[Path],
    ng: Mapping[Path, str],
    terms: Terms,
    progress: Progress = silent,
) -> tuple[Inspector, Calibration]:
    """A judge made from files, not yet written.

    Of the OK photographs, dealt at random, two thirds (or what the rate leaves) teach what good parts look like and the
    others set the threshold; where they are too few for both, they do both in turn (CV+). Photographs that the run
    itself learnt from are left out, and of copies all but one.

    Args:
        folder: the run folder it is for.
        extractor: what to look with.
        ok: photographs of OK parts.
        ng: of NG parts, each with its kind of defect.
        terms: the rate and how it is held.
        progress: told during long steps.
    """
    notes: list[str] = []
    good = _usable(ok, extractor, notes, progress).dealt(terms.seed)
    learning = _learning(len(good.paths), terms)
    extractor.learn(good.blocks(learning or len(good.paths)))
    views = _seen(extractor, good, "looking at OK parts", progress)
    judge = Judge(terms.how)
    if learning:
        judge.fit({name: view[:learning] for name, view in views.items()})
        calibrating = {name: view[learning:] for name, view in views.items()}
        threshold: Threshold = judge.calibrate(calibrating, terms.false_reject, confidence=terms.confidence)
    else:
        threshold = judge.cross_calibrate(views, terms.false_reject)
        notes.append(
            f"{len(good.paths)} OK parts are too few to teach some and calibrate with others, so all do both (CV+)"
        )
    facts: dict[str, Any] = {
        "ok_parts": len(good.paths),
        "learnt_from": learning or len(good.paths),
        "calibrated_on": len(good.paths) - learning,
        "method": "split" if learning else "cross",
        "false_reject": terms.false_reject,
        "confidence": terms.confidence,
        "ok": [str(path) for path in good.paths],
        "conditions": asdict(good.conditions),
        "eye": {"name": extractor.name, "fingerprint": extractor.fingerprint},
        "ng": {str(path): kind for path, kind in ng.items()},
        "seed": terms.seed,
        "how": terms.how,
    }
    ng_scores = np.zeros(0)
    curve, pools = None, [(good, ["OK"] * len(good.paths), views)]
    if ng:
        bad = _usable(list(ng), extractor, notes, progress)
        _refuse_both(good, bad)
        kinds = [ng[path] for path in bad.paths]
        ng_views = _seen(extractor, bad, "looking at NG parts", progress)
        pools.append((bad, kinds, ng_views))
        ng_scores = judge.score(ng_views)
        curve = TradeOff.from_scores(judge.calibration_scores, ng_scores)
        if terms.costs is not None:
            threshold = _cheapest(judge, curve, terms.costs, facts, notes)
        missed = ~judge.judge(ng_views).ng
        facts |= {
            "ng_parts": len(kinds),
            "missed": float(missed.mean()),
            "auroc": curve.auroc(),
            "missed_by_kind": {
                kind: float(missed[np.array(kinds) == kind].mean()) for kind in sorted(set(kinds))
            },
        }
    facts |= threshold.to_dict()
    examples = _examples(judge, pools)
    facts["kinds_by"] = kinds_by(examples)
    inspector = Inspector(folder, extractor, judge, examples, facts)
    return inspector, Calibration(facts, threshold.promise(), notes, curve, ng_scores)


def _learning(parts: int, terms: Terms) -> int:
    """How many OK parts teach; 0 where all do both."""
    learning = learning_parts(parts, terms.false_reject, terms.confidence)
    if learning == 0 and terms.confidence is not None:
        needed = parts_needed(terms.false_reject, terms.confidence)
        raise InputError(
            f"{parts} OK parts are too few: {needed} must calibrate to be {100 * terms.confidence:.4g} % sure, and at "
            f"least {max(8, needed // 4)} more teach; give more, or leave out the confidence"
        )
    return learning


def _cheapest(
    judge: Judge, curve: TradeOff, costs: Costs, facts: dict[str, Any], notes: list[str]
) -> Threshold:
    """State the rate that costs least."""
    best = curve.cheapest(costs.escape, costs.overkill, ng_share=costs.ng_share)
    own = judge.calibration_scores
    rate = (float(np.sum(own > best.threshold)) + 1) / (len(own) + 1)
    threshold = judge.set_rate(min(rate, 1 - 1 / (len(own) + 1)))
    facts |= {
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


@dataclass(frozen=True, eq=False)
class _Pool:
    """Photographs that can be used, and their pixels."""

    conditions: Conditions
    paths: list[Path]
    pixels: list[Pixels]

    def dealt(self, seed: int) -> _Pool:
        order = np.random.default_rng(seed).permutation(len(self.paths))
        return _Pool(self.conditions, [self.paths[i] for i in order], [self.pixels[i] for i in order])

    def blocks(self, number: int) -> Iterator[list[Pixels]]:
        """The first so many, a few at a time."""
        for start in range(0, number, BLOCK):
            yield self.pixels[start : min(start + BLOCK, number)]


def _usable(
    paths: Sequence[Path], extractor: FeatureExtractor, notes: list[str], progress: Progress
) -> _Pool:
    """The files that can be read, each content once, none that the eye learnt from."""
    learnt: set[int] = set()
    if isinstance(extractor, EmbedderExtractor):
        learnt = set(extractor.embedder.reference_contents_.tolist())
    kept: list[Photo] = []
    content: set[str] = set()
    bad, copies, known, done = [], 0, 0, 0
    for block in iter_photos(paths, extractor.frame, extractor.channels):
        for one in block:
            if one.pixels is None:
                bad.append(f"{one.path} ({one.problem})")
            elif one.content in content:
                copies += 1
            elif learnt and int(content_hashes(one.pixels[None])[0]) in learnt:
                known += 1
            else:
                content.add(one.content)
                kept.append(one)
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
    pixels = [one.pixels for one in kept if one.pixels is not None]
    return _Pool(Conditions.of(kept), [one.path for one in kept], pixels)


def _refuse_both(good: _Pool, bad: _Pool) -> None:
    content = {pixel_hash(pixels): path for path, pixels in zip(good.paths, good.pixels, strict=True)}
    both = [
        (content[said], path)
        for path, pixels in zip(bad.paths, bad.pixels, strict=True)
        if (said := pixel_hash(pixels)) in content
    ]
    if both:
        more = f", and {len(both) - 1} more" if len(both) > 1 else ""
        raise InputError(
            f"{both[0][1]}: is given as NG, and the same photograph as OK ({both[0][0]}){more}; take it out of one"
        )


def _seen(
    extractor: FeatureExtractor, pool: _Pool, label: str, progress: Progress
) -> dict[str, NDArray[np.float32]]:
    parts: dict[str, list[NDArray[np.float32]]] = {}
    done = 0
    for pixels in pool.blocks(len(pool.paths)):
        for name, view in extractor.extract(pixels).views.items():
            parts.setdefault(name, []).append(view)
        done += len(pixels)
        progress(label, done, len(pool.paths))
    return {name: np.concatenate(views) for name, views in parts.items()}


def _examples(
    judge: Judge, pools: Sequence[tuple[_Pool, list[str], Mapping[str, NDArray[np.float32]]]]
) -> Examples:
    """Parts to compare with: the first OK parts, and all NG parts."""
    names: list[str] = []
    kinds: list[str] = []
    thumbnails: list[NDArray[np.uint8]] = []
    vectors = []
    for pool, kinds_of, views in pools:
        most = MOST_EXAMPLES if kinds_of[0] == "OK" else len(kinds_of)
        names += [str(path) for path in pool.paths[:most]]
        kinds += kinds_of[:most]
        thumbnails += [shrink(pixels, THUMBNAIL) for pixels in pool.pixels[:most]]
        vectors.append(judge.whiten({name: view[:most] for name, view in views.items()}))
    whitened = np.concatenate(vectors)
    directions = foremost_directions(whitened)
    drawn = np.zeros((len(thumbnails), THUMBNAIL, THUMBNAIL, *thumbnails[0].shape[2:]), np.uint8)
    for square, small in zip(drawn, thumbnails, strict=True):
        square[: small.shape[0], : small.shape[1]] = small
    return Examples(
        names,
        kinds,
        whitened @ directions,
        directions,
        without_idle_colour(drawn),
        np.array([small.shape[:2] for small in thumbnails], np.int64),
    )


def kinds_by(examples: Examples) -> str:
    """By what kinds of defects are named: the mean of each, or its single examples, whichever names more rightly.

    Each fifth of the NG examples is named by the others in turn. Kinds that look alike wherever they lie are best known
    by their mean, kinds that look different from place to place by their examples.
    """
    ng = np.flatnonzero(examples.ng)
    vectors, kinds = examples.vectors[ng], np.array([examples.kinds[row] for row in ng], dtype=object)
    # Within each kind in turn, so that every fifth has its share of all.
    turn = np.array([np.sum(kinds[:row] == kind) for row, kind in enumerate(kinds)], np.int64) % _FIFTHS
    rightly = dict.fromkeys(KINDS_BY, 0.0)
    for way, settings in KINDS_BY.items():
        said = np.full(len(kinds), "", dtype=object)
        for out in (turn == fifth for fifth in range(_FIFTHS)):
            if out.any() and not out.all():
                said[out] = (
                    DefectTypeClassifier(**settings).fit(vectors[~out], kinds[~out]).predict(vectors[out])
                )
        rightly[way] = sum(float(np.mean(said[kinds == kind] == kind)) for kind in set(kinds))
    return max(KINDS_BY, key=lambda way: rightly[way])  # the first of equals


def _kinds(paths: Sequence[Path], places: Sequence[Path]) -> list[str]:
    """The kind of defect of each file: the name of the sub-folder it lies in, or of the folder that was given."""
    kinds = []
    for path in paths:
        place = next((place for place in places if place in path.parents), path.parent)
        inside = path.relative_to(place).parts if place in path.parents else ()
        kinds.append(inside[0] if len(inside) > 1 else place.name or "NG")
    return kinds


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
