"""Judging magnetic tiles: who is told apart, whether the stated rate holds, where, and how fast.

Splits are by image, seeds 0 to 4. The unit spaces see 476 OK tiles; the other 476 and all defective ones are judged.
Defective tiles never teach anything here. Everything goes through the eyes and the judge that `mekiki calibrate` uses.

The data set holds one tile under several exposures. So it is measured once more with *scenes apart*: numbers in the
names of files that follow each other closely are taken for one scene, and half of the scenes teach.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score

from benchmarks.measuring import median
from mekiki.data.decoding import decode_mask
from mekiki.data.photo import iter_photos
from mekiki.evaluation.anomaly_map_quality import pixel_auroc, region_overlap
from mekiki.judging.calibrate import CalibrationSettings, calibrate_run
from mekiki.judging.extractors import make_extractor
from mekiki.judging.feature_judge import Judge
from mekiki.judging.features import Features
from mekiki.judging.judge_photos import Inspector

DATA = Path(os.environ.get("MEKIKI_DATA", ""))
TILES = DATA / "magnetic_tile"
MASKS = DATA / "magnetic_tile_masks"
BACKBONE = f"hf:{DATA / 'weights' / 'mobilenet_v1_0.75_224'}"
EYES = {"backbone": BACKBONE, "filters": "filters"}
LEARN = 476
SEEDS = 5
SPLITS = 200
RATES = (0.01, 0.05)
CALIBRATE = 300
"""OK tiles that set the threshold in each of the random splits; as many teach, and the other 352 are judged."""
SCENE_GAP = 300
"""Numbers in file names that are farther apart than this are of two scenes; a guess from the names."""
MAP_SIDE = 224
TIMED = 200


class Tiles:
    """All tiles as an eye sees them."""

    def __init__(self, encoder: str) -> None:
        self.extractor = make_extractor(Path("nowhere"), encoder)
        self.paths = [path for kind in sorted(TILES.iterdir()) for path in sorted(kind.iterdir())]
        self.kinds = np.array([path.parent.name for path in self.paths])
        blocks = list(iter_photos(self.paths, self.extractor.frame, self.extractor.channels))
        self.images = [one.pixels for block in blocks for one in block if one.pixels is not None]
        assert len(self.images) == len(self.paths)
        ok = self.kinds == "free"
        self.extractor.fit([[image for image, good in zip(self.images, ok, strict=True) if good]])
        sights = [
            self.extractor.extract(self.images[start : start + 16])
            for start in range(0, len(self.images), 16)
        ]
        self.views = {name: np.concatenate([s.groups[name] for s in sights]) for name in sights[0].groups}
        self.patches = {name: [p for s in sights for p in s.patches[name]] for name in sights[0].patches}
        self.ok, self.ng = np.flatnonzero(ok), np.flatnonzero(~ok)

    def seen(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Views of these tiles."""
        return {name: view[rows] for name, view in self.views.items()}

    def sight(self, rows: np.ndarray) -> Features:
        """The same with patches."""
        return Features(
            self.seen(rows), {name: [grids[row] for row in rows] for name, grids in self.patches.items()}
        )


def told_apart(tiles: Tiles) -> dict[str, Any]:
    """AUROC of the image score, all defects and each kind; pixel AUROC and PRO of the maps."""
    found: dict[str, list[float]] = {}
    kinds = sorted(set(tiles.kinds) - {"free"})
    masks = [_mask(tiles.paths[row]) for row in tiles.ng]
    for seed in range(SEEDS):
        order = np.random.default_rng(seed).permutation(tiles.ok)
        learnt, others = order[:LEARN], order[LEARN:]
        judge = Judge().fit(tiles.seen(learnt))
        good, bad = judge.score(tiles.seen(others)), judge.score(tiles.seen(tiles.ng))
        figures = {"image AUROC": _auroc(good, bad)}
        figures |= {
            f"image AUROC, {kind}": _auroc(good, bad[tiles.kinds[tiles.ng] == kind]) for kind in kinds
        }
        maps = {}
        for name, rows in (("bad", tiles.ng), ("good", others)):
            places = tiles.extractor.anomaly_maps(
                [tiles.images[row] for row in rows], tiles.sight(rows), judge
            )
            maps[name] = [_enlarged(each) for each in places]
        nowhere = [np.zeros((MAP_SIDE, MAP_SIDE), bool)] * len(others)
        figures["pixel AUROC"] = pixel_auroc(maps["bad"] + maps["good"], masks + nowhere)
        small = tiles.kinds[tiles.ng] != "uneven"
        figures["pixel AUROC without uneven"] = pixel_auroc(
            [each for each, here in zip(maps["bad"], small, strict=True) if here] + maps["good"],
            [each for each, here in zip(masks, small, strict=True) if here] + nowhere,
        )
        figures["PRO to 30 %"] = region_overlap(maps["bad"] + maps["good"], masks + nowhere)
        for name, value in figures.items():
            found.setdefault(name, []).append(value)
        print(f"seed {seed}: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
    return {name: [float(np.mean(values)), float(np.std(values))] for name, values in found.items()}


def scenes_apart(tiles: Tiles) -> list[float]:
    """AUROC of the image score where no scene is both learnt from and judged: mean and deviation over seeds."""
    scenes = number_scenes(tiles.paths)
    found = []
    for seed in range(SEEDS):
        dealt = np.random.default_rng(seed).permutation(scenes.max() + 1)
        teaches = np.isin(scenes, dealt[: len(dealt) // 2])
        ok, ng = tiles.kinds == "free", tiles.kinds != "free"
        judge = Judge().fit(tiles.seen(np.flatnonzero(ok & teaches)))
        good, bad = (
            judge.score(tiles.seen(np.flatnonzero(ok & ~teaches))),
            judge.score(tiles.seen(np.flatnonzero(ng & ~teaches))),
        )
        found.append(_auroc(good, bad))
    return [float(np.mean(found)), float(np.std(found))]


def number_scenes(paths: list[Path]) -> np.ndarray:
    """The scene of each tile, int64 `[N]`; numbers in file names that follow each other closely are one scene."""
    numbers = np.array([int(path.stem.rpartition("_")[2]) for path in paths])
    order = np.argsort(numbers)
    scenes = np.empty(len(numbers), np.int64)
    scenes[order] = np.cumsum(np.diff(numbers[order], prepend=numbers[order[0]]) > SCENE_GAP)
    return scenes


def coverage(tiles: Tiles) -> dict[str, Any]:
    """False rejects of OK tiles that neither taught nor calibrated, over random splits, at each stated rate."""
    kept: dict[float, list[float]] = {rate: [] for rate in RATES}
    missed: dict[float, list[float]] = {rate: [] for rate in RATES}
    for seed in range(SPLITS):
        order = np.random.default_rng(seed).permutation(tiles.ok)
        learnt, calibrating, others = np.split(order, [len(order) - 652, len(order) - 652 + CALIBRATE])
        judge = Judge().fit(tiles.seen(learnt))
        judge.calibrate(tiles.seen(calibrating), RATES[0])
        good, bad = judge.score(tiles.seen(others)), judge.score(tiles.seen(tiles.ng))
        for rate in RATES:
            threshold = judge.set_rate(rate)
            kept[rate].append(float(np.mean(good > threshold.value)))
            missed[rate].append(float(np.mean(bad <= threshold.value)))
    return {
        f"{rate:g}": {
            "promised": int(rate * (CALIBRATE + 1)) / (CALIBRATE + 1),
            "mean": float(np.mean(kept[rate])),
            "standard_error": float(np.std(kept[rate]) / np.sqrt(SPLITS)),
            "from": float(np.quantile(kept[rate], 0.025)),
            "to": float(np.quantile(kept[rate], 0.975)),
            "missed": float(np.mean(missed[rate])),
        }
        for rate in RATES
    }


def latency() -> dict[str, float]:
    """Milliseconds from a file to a verdict, warm, median over tiles."""
    good = sorted((TILES / "free").iterdir())[:200]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        conv = Path(folder) / "conv"
        words = [
            "train",
            "surfaces",
            "--per-class",
            "20",
            "--encoder",
            "conv",
            "--epochs",
            "1",
            "--dim",
            "16",
        ]
        subprocess.run(
            [sys.executable, "-m", "mekiki", *words, "--out", str(conv)], check=True, capture_output=True
        )
        runs = {"backbone": ("b", BACKBONE), "filters": ("f", "filters"), "conv": ("conv", None)}
        for name, (place, encoder) in runs.items():
            inspector, _ = calibrate_run(
                Path(folder) / place, good, encoder=encoder, settings=CalibrationSettings(0.05)
            )
            found[name] = _milliseconds(inspector)
    return found


def _milliseconds(inspector: Inspector) -> float:
    paths = sorted((TILES / "crack").iterdir()) + sorted((TILES / "free").iterdir())[200 : 200 + TIMED]
    for path in paths[:20]:
        inspector.judge_file(path)
    times = []
    for path in paths[:TIMED]:
        begun = time.perf_counter()
        inspector.judge_file(path)
        times.append(time.perf_counter() - begun)
    return 1000 * median(times)


def main() -> dict[str, Any] | None:
    """Measure and print."""
    if not TILES.is_dir():
        print("inspection: needs MEKIKI_DATA with magnetic_tile")
        return None
    result: dict[str, Any] = {}
    for extractor, encoder in EYES.items():
        tiles = Tiles(encoder)
        print(extractor)
        result[extractor] = {"told_apart": told_apart(tiles), "coverage": coverage(tiles)}
        result[extractor]["told_apart"]["image AUROC, scenes apart"] = scenes_apart(tiles)
        for name, (mean, deviation) in result[extractor]["told_apart"].items():
            print(f"{name:>28} {mean:.4f} ± {deviation:.4f}")
        for rate, row in result[extractor]["coverage"].items():
            print(
                f"stated {rate}: promised ≤ {row['promised']:.4f}, realised {row['mean']:.4f} ± "
                f"{row['standard_error']:.4f} (95 % of splits {row['from']:.4f}…{row['to']:.4f}), "
                f"missed {row['missed']:.3f}"
            )
        del tiles
    result["latency_ms"] = latency()
    print(result["latency_ms"])
    return result


def _mask(path: Path) -> np.ndarray:
    return decode_mask(MASKS / path.parent.name / f"{path.stem}.png", (MAP_SIDE, MAP_SIDE))


def _enlarged(places: np.ndarray) -> np.ndarray:
    side = (MAP_SIDE, MAP_SIDE)
    return np.asarray(Image.fromarray(places).resize(side, Image.Resampling.BICUBIC))


def _auroc(good: np.ndarray, bad: np.ndarray) -> float:
    kinds = np.r_[np.zeros(len(good)), np.ones(len(bad))]
    return float(roc_auc_score(kinds, np.r_[good, bad]))


if __name__ == "__main__":
    main()
