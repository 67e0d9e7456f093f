"""What corrections do to parts that nobody corrected: misses and AUROC after 0, 1, 3 and 10 of them.

Magnetic tiles and solar cells, features of the backbone and of filters; ten draws of each. In a draw a judge is made
as `mekiki calibrate` makes it at 5 %: 400 OK tiles (or 60 % of the OK cells), two thirds to learn from. Then NG parts
that it misses are taught, of any kind, and all other NG parts and OK parts are judged. Three ways:

- `NG`: no NG part was given to calibrate.
- `NG, some known`: half of the NG parts were, those taught are among the others, and these are judged.
- `OK`: false rejects are taught as OK instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.inspection import DATA, EYES
from mekiki.data.photo import iter_photos
from mekiki.judging.conformal import conformal_threshold
from mekiki.judging.extractors import make_extractor
from mekiki.judging.feature_judge import Judge
from mekiki.judging.learning_split import learning_parts
from mekiki.judging.scoring import Scoring, ScoringModel

SETS = {"magnetic_tile": "free", "solar_cells_mono": "functional"}
"""Folders of the data, and the one with OK parts in each."""
COUNTS = (1, 3, 10)
DRAWS = 10
RATE = 0.05
OK_PARTS = 400
OK_SHARE = 0.6
"""Of the OK parts, where there are few."""
WAYS = ("NG", "NG, some known", "OK")
FIGURES = ("missed before", "missed", "AUROC before", "AUROC", "false rejects")

Groups = dict[str, np.ndarray]


def main() -> dict[str, Any] | None:
    """Measure and print."""
    names = [name for name in SETS if (DATA / name).is_dir()]
    if not names:
        print(f"corrections: needs MEKIKI_DATA with {' or '.join(SETS)}")
        return None
    result: dict[str, Any] = {}
    for name in names:
        for features, encoder in EYES.items():
            groups, ok, _ = extract_groups(DATA / name, encoder, SETS[name])
            result[f"{name}, {features}"] = _measure(f"{name}, {features}", groups, ok)
    return result


def extract_groups(folder: Path, encoder: str, ok_name: str) -> tuple[Groups, np.ndarray, list[Path]]:
    """Feature groups of all photographs, which are of OK parts, and the files."""
    extractor = make_extractor(Path("nowhere"), encoder)
    paths = [path for kind in sorted(folder.iterdir()) for path in sorted(kind.iterdir())]
    ok = np.array([path.parent.name == ok_name for path in paths])
    photos = [one for block in iter_photos(paths, extractor.frame, extractor.channels) for one in block]
    images = [photo.pixels for photo in photos if photo.pixels is not None]
    assert len(images) == len(paths)
    extractor.fit([[image for image, good in zip(images, ok, strict=True) if good]])
    blocks = [extractor.extract(images[start : start + 16]).groups for start in range(0, len(images), 16)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}, ok, paths


def _measure(name: str, groups: Groups, ok: np.ndarray) -> dict[str, Any]:
    figures: dict[str, dict[int, list[tuple[float, ...]]]] = {way: {} for way in WAYS}
    for draw in range(DRAWS):
        for way, own in draw_parts(groups, ok, draw).items():
            for count, row in own.items():
                figures[way].setdefault(count, []).append(row)
    result: dict[str, Any] = {}
    for way, rows in figures.items():
        for count, values in rows.items():
            table = np.array(values)
            means = dict(zip(FIGURES, table.mean(axis=0).tolist(), strict=True))
            worst = {
                "worst rise of misses": float((table[:, 1] - table[:, 0]).max()),
                "worst fall of AUROC": float((table[:, 2] - table[:, 3]).max()),
            }
            result[f"{way}, {count}"] = means | worst | {"draws": len(values)}
            print(
                f"{name}: {count} corrections ({way}), {len(values)} draws: {_text(means | worst)}",
                flush=True,
            )
    return result


def _text(row: dict[str, float]) -> str:
    return (
        f"missed {row['missed before']:.3f} → {row['missed']:.3f} (worst {row['worst rise of misses']:+.3f}), "
        f"AUROC {row['AUROC before']:.4f} → {row['AUROC']:.4f} (worst {-row['worst fall of AUROC']:+.4f}), "
        f"false rejects {row['false rejects']:.3f}"
    )


def draw_parts(groups: Groups, ok: np.ndarray, draw: int) -> dict[str, dict[int, tuple[float, ...]]]:
    """`FIGURES` by way and number of corrections, in one draw."""
    rows = np.random.default_rng(draw).permutation(np.flatnonzero(ok))
    number = min(OK_PARTS, int(OK_SHARE * len(rows)))
    learning = learning_parts(number, RATE)
    (model,) = Judge().fit(take_rows(groups, rows[:learning]))._models
    # Corrections change nothing in the detectors, so these look at each photograph once.
    reduced, scoring = model.reduce(groups), model.scoring
    calibrating, other_ok = rows[learning:number], rows[number:]
    ng = np.random.default_rng(1000 + draw).permutation(np.flatnonzero(~ok))
    results: dict[str, dict[int, tuple[float, ...]]] = {}
    for way in WAYS:
        known = take_rows(reduced, ng[::2]) if way == "NG, some known" else None
        unknown = ng if known is None else ng[1::2]

        def judge(
            corrected: np.ndarray, known: Groups | None = known, unknown: np.ndarray = unknown, way: str = way
        ) -> tuple[np.ndarray, np.ndarray, float]:
            """Scores of OK parts and of NG parts, and the threshold, with these parts corrected."""
            taught = [
                (way != "OK", {name: group[row] for name, group in reduced.items()}) for row in corrected
            ]
            scoring.teach(taught, known, learn_known=known is not None)
            scores = [_score(scoring, take_rows(reduced, each)) for each in (calibrating, other_ok, unknown)]
            return scores[1], scores[2], conformal_threshold(scores[0], RATE).value

        good, bad, threshold = judge(ng[:0])
        candidates = other_ok[good > threshold] if way == "OK" else unknown[bad <= threshold]
        results[way] = {}
        for count in COUNTS:
            if len(candidates) < count:
                continue
            taught = candidates[:count]
            unseen, unseen_ok = ~np.isin(unknown, taught), ~np.isin(other_ok, taught)
            truth = np.repeat([0, 1], [unseen_ok.sum(), unseen.sum()])
            before = good[unseen_ok], bad[unseen], threshold
            own, of_ng, limit = judge(taught)
            after = own[unseen_ok], of_ng[unseen], limit
            missed = [float((each[1] <= each[2]).mean()) for each in (before, after)]
            aurocs = [float(roc_auc_score(truth, np.concatenate(each[:2]))) for each in (before, after)]
            results[way][count] = (*missed, *aurocs, float((after[0] > limit).mean()))
    return results


def _score(scoring: ScoringModel, parts: Groups) -> np.ndarray:
    return np.asarray(Scoring([scoring]).run({name: parts[name] for name in scoring.inputs})["score"])


def take_rows(groups: Groups, rows: np.ndarray) -> Groups:
    """The groups of these parts."""
    return {name: group[rows] for name, group in groups.items()}


if __name__ == "__main__":
    main()
