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
from mekiki.judging.extractors import make_extractor
from mekiki.judging.feature_judge import Judge
from mekiki.judging.judge_result import TaughtPart
from mekiki.judging.learning_split import learning_parts

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
        for way in WAYS:
            for count, row in _draw(groups, ok, draw, way).items():
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
            print(f"{name}: {count} corrections ({way}), {len(values)} draws: {_text(means | worst)}")
    return result


def _text(row: dict[str, float]) -> str:
    return (
        f"missed {row['missed before']:.3f} → {row['missed']:.3f} (worst {row['worst rise of misses']:+.3f}), "
        f"AUROC {row['AUROC before']:.4f} → {row['AUROC']:.4f} (worst {-row['worst fall of AUROC']:+.4f}), "
        f"false rejects {row['false rejects']:.3f}"
    )


def _draw(groups: Groups, ok: np.ndarray, draw: int, way: str) -> dict[int, tuple[float, ...]]:
    """`FIGURES` by number of corrections, in one draw."""
    rows = np.random.default_rng(draw).permutation(np.flatnonzero(ok))
    number = min(OK_PARTS, int(OK_SHARE * len(rows)))
    learning = learning_parts(number, RATE)
    judge = Judge().fit(take_rows(groups, rows[:learning]))
    judge.calibrate(take_rows(groups, rows[learning:number]), RATE)
    other_ok, ng = rows[number:], np.random.default_rng(1000 + draw).permutation(np.flatnonzero(~ok))
    if way == "NG, some known":
        judge.learn_ng(take_rows(groups, ng[::2]))
        ng = ng[1::2]
    before, before_ok = judge.judge(take_rows(groups, ng)), judge.judge(take_rows(groups, other_ok))
    candidates = other_ok[before_ok.ng] if way == "OK" else ng[~before.ng]
    results = {}
    for count in COUNTS:
        if len(candidates) < count:
            continue
        taught = candidates[:count]
        judge.teach(
            [TaughtPart(way != "OK", {name: group[row] for name, group in groups.items()}) for row in taught]
        )
        after, after_ok = judge.judge(take_rows(groups, ng)), judge.judge(take_rows(groups, other_ok))
        unseen, unseen_ok = ~np.isin(ng, taught), ~np.isin(other_ok, taught)
        truth = np.repeat([0, 1], [unseen_ok.sum(), unseen.sum()])
        aurocs = [
            float(roc_auc_score(truth, np.r_[good.score[unseen_ok], bad.score[unseen]]))
            for good, bad in ((before_ok, before), (after_ok, after))
        ]
        missed = [float((~each.ng[unseen]).mean()) for each in (before, after)]
        results[count] = (*missed, *aurocs, float(after_ok.ng[unseen_ok].mean()))
        judge.teach([])
    return results


def take_rows(groups: Groups, rows: np.ndarray) -> Groups:
    """The groups of these parts."""
    return {name: group[rows] for name, group in groups.items()}


if __name__ == "__main__":
    main()
