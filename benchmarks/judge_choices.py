"""What two choices of the judge are worth: `PhotoContext` before each detector, and weights of detectors.

    python -m benchmarks judge_choices

prints the two tables of `docs/decisions/0017-detectors-on-patches.md`: image AUROC of each single detector without and
with `PhotoContext`; and of rules that join all of them, beside the sum weighed by `weigh_detectors`. The sets are the
tiles and cells of `MEKIKI_DATA` and all kinds of generated parts; none is left out. Features are those of `mekiki
calibrate`, extracted once for each set. Of each set some OK photographs, chosen at random, are learnt from; other OK
photographs and NG photographs are judged. No NG photograph is learnt from.

Without `PhotoContext` means: channels are standardised and projected and the mean of each place is taken off as with
it, but nothing is explained by the photograph as a whole.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks.generated_parts import KINDS, write_parts
from benchmarks.judging_peers import ENCODER, FOLDERS, PhotoSet, read_photo_set
from mekiki.data.decoding import read_header
from mekiki.data.image_set import Pixels
from mekiki.data.photo import iter_photos
from mekiki.judging.detectors import photo_context
from mekiki.judging.detectors.patch_detectors import DETECTORS, FINE_DETECTORS, PatchDetectors
from mekiki.judging.extractors import make_extractor
from mekiki.judging.feature_judge import Judge
from mekiki.judging.features import FeatureExtractor
from mekiki.judging.judge_model import FINE, MT_DISTANCE, column_name
from mekiki.judging.scoring import Scoring
from mekiki.judging.weigh_detectors import weigh_detectors

LEARN, JUDGE_EACH = 200, 200
"""Photographs learnt from, and OK and NG ones judged, at most; of few OK photographs two thirds are learnt from."""
OK, NG = 180, 80
"""Photographs of a set of generated parts."""
POWERS = {"equal sum": 0, "sum, weighed by the rise": 1, "sum, weighed by its square": 2}
"""Rules that weigh each column by the factor of `weigh_detectors` to this power."""
MAXIMUM = "the largest −log p"
_BLOCK = 16

Groups = Mapping[str, NDArray[np.float32]]
Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


class SplitSet(NamedTuple):
    """A set of photographs, part of it learnt from and part of it judged.

    Attributes:
        images: of those learnt from, uint8 `[H, W]` or `[H, W, 3]`.
        learnt: their feature groups.
        judged: feature groups of the others.
        ng: bool, which of the others are NG.
        extract: from photographs to feature groups.
    """

    images: list[Pixels]
    learnt: Groups
    judged: Groups
    ng: NDArray[np.bool_]
    extract: Callable[[Iterable[Pixels]], Groups]


def split_set(photos: PhotoSet, encoder: str, seed: int = 0) -> SplitSet:
    """Choose photographs at random, and extract the feature groups that `mekiki calibrate` takes."""
    rng = np.random.default_rng(seed)
    ok, ng = (rng.permutation(np.flatnonzero(photos.ng == bad)) for bad in (False, True))
    number = min(LEARN, 2 * len(ok) // 3)
    rows = np.r_[ok[: number + JUDGE_EACH], ng[:JUDGE_EACH]]
    paths = [photos.paths[row] for row in rows]
    extractor = make_extractor(Path("nowhere"), encoder)
    headers = [read_header(path) for path in paths[:number]]
    extractor.choose_scale([(header.height, header.width) for header in headers], None)
    found = [photo for block in iter_photos(paths, extractor.frame, extractor.channels) for photo in block]
    images = [photo.pixels for photo in found if photo.pixels is not None]
    extractor.fit([image] for image in images[:number])
    groups = _extract(extractor, images)
    return SplitSet(
        images[:number],
        {name: group[:number] for name, group in groups.items()},
        {name: group[number:] for name, group in groups.items()},
        photos.ng[rows[number:]],
        partial(_extract, extractor),
    )


def _extract(extractor: FeatureExtractor, images: Iterable[Pixels]) -> Groups:
    """Feature groups of photographs, a few at a time: painted ones are made as they are taken."""
    blocks: list[Groups] = []
    block: list[Pixels] = []
    for image in images:
        block.append(image)
        if len(block) == _BLOCK:
            blocks.append(extractor.extract(block).groups)
            block = []
    if block:
        blocks.append(extractor.extract(block).groups)
    return {name: np.concatenate([each[name] for each in blocks]) for name in blocks[0]}


def compare_detectors(parts: SplitSet, reduced: Groups, neg_log_p: Floats) -> dict[str, dict[str, float]]:
    """Image AUROC of each single detector `without` and `with` `PhotoContext`; the MT distance takes no patches.

    Args:
        parts: the set.
        reduced: of the photographs judged, vectors by group and scores of the detectors, of `JudgeModel.reduce`.
        neg_log_p: of the same, `[N, columns]`.
    """
    columns = list(reduced.values())[: neg_log_p.shape[1]]  # departures, without a score, come after
    vectors = [place for place, group in enumerate(columns) if group.ndim == 2]
    found = {MT_DISTANCE: {"with": auroc(parts.ng, neg_log_p[:, vectors].sum(axis=1))}}
    for group in (name for name, each in parts.learnt.items() if each.ndim == 4):
        names = list(FINE_DETECTORS if group == FINE else DETECTORS)
        with patch.object(photo_context, "MOST_DIRECTIONS", 0):
            plain = PatchDetectors.fit(parts.learnt[group], names)
        scores = plain.score(parts.judged[group])
        for name, without in zip(plain.names, scores.T, strict=True):
            own = reduced[column_name(group, name)]
            found[name] = {"without": auroc(parts.ng, without), "with": auroc(parts.ng, own)}
    return found


def compare_rules(
    ng: NDArray[np.bool_], neg_log_p: Floats, weights: Floats, factors: Floats
) -> dict[str, float]:
    """Image AUROC of each rule.

    Args:
        ng: bool `[N]`.
        neg_log_p: `[N, columns]`.
        weights: of the columns in an equal sum, `[columns]`.
        factors: of `weigh_detectors`, `[columns]`.
    """
    found = {name: auroc(ng, neg_log_p @ (weights * factors**power)) for name, power in POWERS.items()}
    return found | {MAXIMUM: auroc(ng, neg_log_p.max(axis=1))}


def auroc(ng: NDArray[np.bool_], scores: NDArray[Any]) -> float:
    """Share of pairs of an OK and an NG photograph of which the NG one has the larger score."""
    return float(roc_auc_score(ng, scores))


def measure(photos: PhotoSet, encoder: str, seed: int = 0) -> dict[str, Any]:
    """Both comparisons on one set.

    Args:
        photos: the set.
        encoder: as `make_extractor` takes it.
        seed: of the choice of photographs, and of the painted defects.

    Returns:
        `detectors` of `compare_detectors`, `rules` of `compare_rules`, the `factors` by column, how many photographs
        there were, and the `seconds` it took.
    """
    start = time.perf_counter()
    parts = split_set(photos, encoder, seed)
    judge = Judge().fit(parts.learnt)
    (model,) = judge._models
    reduced = model.reduce(parts.judged)
    neg_log_p = Scoring([model.scoring]).run(reduced)["neg_log_p"]
    images = [partial(parts.images.__getitem__, row) for row in range(len(parts.images))]
    by_name = weigh_detectors(Judge(), parts.learnt, images, parts.extract, seed)
    factors = np.array([by_name.get(name, 1.0) for name in judge.columns])
    return {
        "learnt_from": len(parts.images),
        "ok": int((~parts.ng).sum()),
        "ng": int(parts.ng.sum()),
        "factors": dict(zip(judge.columns, factors.tolist(), strict=True)),
        "detectors": compare_detectors(parts, reduced, neg_log_p),
        "rules": compare_rules(parts.ng, neg_log_p, np.array(model.scoring.weights), factors),
        "seconds": time.perf_counter() - start,
    }


def tables_of(sets: Sequence[Mapping[str, Any]]) -> str:
    """Both tables in Markdown."""
    detectors = list(dict.fromkeys(name for each in sets for name in each["detectors"]))
    singles = [["", *detectors], ["---"] * (len(detectors) + 1)]
    for each in sets:
        cells = [_arrow(each["detectors"].get(name, {})) for name in detectors]
        singles.append([f"{each['name']}, {each['learnt_from']} OK", *cells])
    rules = [["", *(each["name"] for each in sets), "mean"], ["---"] * (len(sets) + 2)]
    for rule in (*POWERS, MAXIMUM):
        figures = [each["rules"][rule] for each in sets]
        rules.append([rule, *(f"{figure:.3f}" for figure in (*figures, np.mean(figures)))])
    return "\n\n".join("\n".join(f"| {' | '.join(row)} |" for row in table) for table in (singles, rules))


def _arrow(found: Mapping[str, float]) -> str:
    return " → ".join(f"{found[name]:.3f}" for name in ("without", "with") if name in found)


def photo_sets(folder: Path) -> Iterator[tuple[str, PhotoSet]]:
    """Name and photographs of each set; generated parts are written into the folder, by all processors."""
    for place in FOLDERS:
        if Path(place.partition(":")[0]).is_dir():
            yield Path(place.partition(":")[0]).parent.name, read_photo_set(place)
    with get_context("spawn").Pool(os.cpu_count()) as pool:
        made = [
            (kind, pool.apply_async(write_parts, (folder / kind, kind), {"ok": OK, "ng": NG}))
            for kind in KINDS
        ]
        for kind, waiting in made:
            waiting.get()
            yield kind, read_photo_set(str(folder / kind))


def main() -> dict[str, Any] | None:
    """Measure and print."""
    if not Path(ENCODER.removeprefix("hf:")).is_dir():
        print(f"judge_choices: needs the weights {ENCODER} ($MEKIKI_DATA); skipped")
        return None
    sets = []
    with TemporaryDirectory() as folder:
        for name, photos in photo_sets(Path(folder)):
            sets.append({"name": name} | measure(photos, ENCODER))
            counts = "{name}: {learnt_from} OK learnt from, {ok} OK and {ng} NG judged, {seconds:.0f} s"
            print(counts.format(**sets[-1]), flush=True)
    print("\n" + tables_of(sets))
    return {"encoder": ENCODER, "sets": sets}
