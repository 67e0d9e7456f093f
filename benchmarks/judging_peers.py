"""Our judge against four simple detectors on the same frozen backbone, on any folders of OK and NG photographs.

    python -m benchmarks judging_peers FOLDER… [--generated [KIND …]] [--encoder hf:NAME_OR_FOLDER …] [--size SIDE]
        [--few N …]

FOLDER is a folder with `ok` and `ng` in it, or `OK_DIR:NG_DIR[,NG_DIR…]`. All are searched recursively, and photographs
under OK_DIR are never NG: `tiles/free:tiles` sets one sub-folder against all its neighbours. `--generated` adds the
sets of `benchmarks/generated_parts.py`, all kinds or those named, drawn into a temporary folder. With neither the data
sets of `MEKIKI_DATA` are taken.

Every detector learns from the same OK photographs and judges the same others. For each of five seeds a share of the OK
photographs (half, or `--few` of them) is learnt from; the rest and all NG photographs are judged. No NG photograph is
learnt from. The detectors take turns within a seed. Ours goes the way of a user: `fit_inspector` on the photographs
learnt from, which splits them once more to set its threshold, and `Inspector.judge_files` on the others. The peers have
three layers of the backbone at its own size, or at `--size`, which does not change ours; they use all photographs they
are given, and state no rate. Splits are by file: where a part was photographed several times, all figures are too high.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, interpolate

from benchmarks.generated_parts import KINDS, write_parts
from mekiki.data.photo import iter_photos, list_photos
from mekiki.errors import InputError, not_known
from mekiki.judging.calibrate import CalibrationSettings, fit_inspector
from mekiki.judging.extractors import limit_size, make_extractor
from mekiki.models.backbone import Backbone

DATA = Path(os.environ.get("MEKIKI_DATA", ""))
ENCODER = f"hf:{DATA / 'weights' / 'mobilenet_v1_0.75_224'}"
FOLDERS = (
    f"{DATA / 'magnetic_tile' / 'free'}:{DATA / 'magnetic_tile'}",
    f"{DATA / 'solar_cells_mono' / 'functional'}:{DATA / 'solar_cells_mono' / 'defective'}",
)
DEPTHS = (0.24, 0.48, 0.72)
"""How deep the peers' three layers lie, as a share of the backbone's depth: hidden states 6, 12 and 18 of 26."""
FINEST, MIDDLE = 0, 1
"""The layer whose grid a peer takes: the one that gave it the better AUROC on seed 0 of solar cells and, with a random
memory, of tiles; .953 against .942 for patch memory on solar cells."""
LEARN_SHARE = 0.5
SEEDS = 5
RATE = 0.05
"""Stated false-reject rate at which ours is also asked what it misses."""
MEMORY = 2_000
"""Patches at most that patch memory keeps. On the tiles 5,000 gave an AUROC of .919, 2,000 one of .918 (seed 0)."""
PROJECTIONS = 128
"""Random projections of a patch by which those kept are chosen."""
CHANNELS = 100
"""Random channels of the Gaussian a place."""
RIDGE = 0.05
"""Share of the trace, spread over the diagonal, that is added to a covariance of a place."""
VARIANCE = 0.99
"""Share of the variance that the patch subspace keeps."""
WORST = 10
"""Places with the largest residuals whose mean is the score of the patch subspace."""
BLOCK = 16
"""Photographs whose patches are computed with together."""

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


class PhotoSet(NamedTuple):
    """Files of OK and NG photographs, each content once; the OK ones first.

    Attributes:
        paths: the files.
        ng: bool, one for each file.
        notes: what was left out.
    """

    paths: list[Path]
    ng: NDArray[np.bool_]
    notes: list[str]


class BackboneFeatures:
    """Three layers of a frozen backbone for all photographs of a set, in memory as float16.

    Args:
        backbone: the pretrained network.
        paths: the photographs; all can be read.
        size: side that photographs are resized to; the backbone's own if `None`.

    Attributes:
        layers: numbers of the hidden states, ascending.
        grids: one array `[N, h, w, d]` for each.
    """

    def __init__(self, backbone: Backbone, paths: Sequence[Path], size: int | None = None) -> None:
        self.layers = [max(1, round(depth * (backbone.layers - 1))) for depth in DEPTHS]
        height, width = backbone.target(size, 1, 1)
        parts: dict[int, list[NDArray[np.float16]]] = {layer: [] for layer in self.layers}
        for photos in iter_photos(paths, lambda h, w: limit_size(h, w, 2 * height * width), 3):
            images = [photo.pixels for photo in photos if photo.pixels is not None]
            for features in backbone.extract(images, self.layers, size=size):
                for layer, grids in features.patches.items():
                    parts[layer].append(grids.astype(np.float16))
        self.grids = [np.concatenate(parts[layer]) for layer in self.layers]

    def means(self, rows: Rows) -> Floats:
        """Mean over the places of the middle layer, `[n, d]`."""
        return self.grids[MIDDLE][rows].mean((1, 2), dtype=np.float32)

    def blocks(self, rows: Rows, grid_of: int, *, neighbours: bool = False) -> Iterator[Floats]:
        """All layers on one grid, a few photographs at a time: `[n, places, channels]`.

        Args:
            rows: the photographs.
            grid_of: position of the layer whose grid it is; finer layers are averaged, coarser ones interpolated.
            neighbours: take the mean of each 3×3 places of a layer first.
        """
        height, width = self.grids[grid_of].shape[1:3]
        for start in range(0, len(rows), BLOCK):
            layers = []
            for grids in self.grids:
                maps = torch.from_numpy(grids[rows[start : start + BLOCK]]).float().permute(0, 3, 1, 2)
                if neighbours:
                    maps = avg_pool2d(maps, 3, stride=1, padding=1, count_include_pad=False)
                if maps.shape[2] > height:
                    maps = adaptive_avg_pool2d(maps, (height, width))
                layers.append(interpolate(maps, (height, width), mode="bilinear", align_corners=False))
            yield torch.cat(layers, 1).flatten(2).transpose(1, 2).contiguous().numpy()


def patch_memory(features: BackboneFeatures, learnt: Rows, judged: Rows, rng: np.random.Generator) -> Floats:
    """Distance of the worst place to the nearest of the kept OK patches: PatchCore, without its reweighting.

    Roth et al. 2022, doi 10.1109/CVPR52688.2022.01392.
    """
    patches = np.concatenate(list(features.blocks(learnt, MIDDLE, neighbours=True)))
    memory = coreset(patches.reshape(-1, patches.shape[2]), MEMORY, rng)
    lengths = (memory**2).sum(axis=1)
    scores = []
    for block in features.blocks(judged, MIDDLE, neighbours=True):
        for queries in block:
            nearest = (lengths - 2 * queries @ memory.T).min(axis=1) + (queries**2).sum(axis=1)
            scores.append(np.sqrt(max(nearest.max(), 0)))
    return np.array(scores)


def coreset(patches: Floats, number: int, rng: np.random.Generator) -> Floats:
    """At most so many patches, each chosen farthest from those before it, by random projections as in PatchCore."""
    if len(patches) <= number:
        return patches
    directions = rng.normal(size=(patches.shape[1], PROJECTIONS)) / np.sqrt(PROJECTIONS)
    projected = patches @ directions.astype(np.float32)
    lengths = (projected**2).sum(axis=1)
    chosen = [int(rng.integers(len(patches)))]
    nearest = np.full(len(patches), np.inf, np.float32)
    while len(chosen) < number:
        last = chosen[-1]
        np.minimum(nearest, lengths + lengths[last] - 2 * projected @ projected[last], out=nearest)
        chosen.append(int(nearest.argmax()))
    return patches[chosen]


def gaussian_a_place(
    features: BackboneFeatures, learnt: Rows, judged: Rows, rng: np.random.Generator
) -> Floats:
    """Mahalanobis distance of the worst place from a Gaussian fitted to that place of all OK photographs: PaDiM.

    Defard et al. 2021, doi 10.1007/978-3-030-68799-1_35.
    """
    channels = rng.permutation(sum(grids.shape[3] for grids in features.grids))[:CHANNELS]
    rows = np.concatenate([block[..., channels] for block in features.blocks(learnt, FINEST)])
    mean = rows.mean(axis=0)
    centred = (rows - mean).transpose(1, 0, 2)
    covariance = centred.transpose(0, 2, 1) @ centred / max(1, len(learnt) - 1)
    trace = np.trace(covariance, axis1=1, axis2=2)[:, None, None]
    ridge = RIDGE * np.maximum(trace, np.finfo(np.float32).eps) / len(channels)
    precision = np.linalg.inv(covariance + ridge * np.eye(len(channels), dtype=np.float32))
    scores = []
    for block in features.blocks(judged, FINEST):
        apart = (block[..., channels] - mean).transpose(1, 0, 2)
        scores.append(((apart @ precision) * apart).sum(axis=2).max(axis=0))
    return np.sqrt(np.concatenate(scores))


def patch_subspace(
    features: BackboneFeatures, learnt: Rows, judged: Rows, rng: np.random.Generator
) -> Floats:
    """What the principal components of OK patches do not explain, mean of the worst places.

    Channels are standardised, and the components keep 99 % of the variance.
    """
    number, total, products = 0, 0.0, 0.0
    for block in features.blocks(learnt, MIDDLE):
        patches = block.reshape(-1, block.shape[2])
        number, total = number + len(patches), total + patches.sum(axis=0, dtype=np.float64)
        products = products + (patches.T @ patches).astype(np.float64)
    mean = total / number
    covariance = products / number - np.outer(mean, mean)
    deviation = np.sqrt(np.maximum(covariance.diagonal(), 1e-8))
    values, vectors = np.linalg.eigh(covariance / np.outer(deviation, deviation))
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    components = np.searchsorted(np.cumsum(values), VARIANCE * values.sum()) + 1
    rest = vectors[:, components:].astype(np.float32)
    scores = []
    for block in features.blocks(judged, MIDDLE):
        standard = (block - mean.astype(np.float32)) / deviation.astype(np.float32)
        residuals = np.linalg.norm(standard @ rest, axis=2)
        scores.append(np.sort(residuals, axis=1)[:, -WORST:].mean(axis=1))
    return np.concatenate(scores)


def mt_distance(features: BackboneFeatures, learnt: Rows, judged: Rows, rng: np.random.Generator) -> Floats:
    """Mahalanobis distance of the middle layer's mean over all places, with the shrinkage of Ledoit and Wolf (2004)."""
    space = LedoitWolf().fit(features.means(learnt).astype(np.float64))
    return np.sqrt(space.mahalanobis(features.means(judged))).astype(np.float32)


PEERS: dict[str, Callable[[BackboneFeatures, Rows, Rows, np.random.Generator], Floats]] = {
    "patch memory": patch_memory,
    "Gaussian a place": gaussian_a_place,
    "patch subspace": patch_subspace,
    "MT distance, one layer": mt_distance,
}


def judge_as_a_user(
    encoder: str, learnt: Sequence[Path], judged: Sequence[Path], seed: int
) -> tuple[Floats, NDArray[np.bool_]]:
    """Scores and NG verdicts of our judge, calibrated at `RATE`.

    Raises:
        InputError: too few photographs are learnt from for the rate.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        settings = CalibrationSettings(RATE, seed=seed)
        inspector, _ = fit_inspector(run, make_extractor(run, encoder), learnt, {}, settings)
        verdicts = list(inspector.judge_files(judged))
    return np.array([each.score for each in verdicts]), np.array([each.verdict == "NG" for each in verdicts])


def read_photo_set(place: str) -> PhotoSet:
    """The photographs of `FOLDER` or `OK_DIR:NG_DIR[,NG_DIR…]`.

    Files that cannot be read are left out, and of copies all but the first.

    Raises:
        InputError: a folder is missing, or nothing in it can be used.
    """
    folder = Path(place).expanduser()
    if folder.is_dir():
        ok_folder, ng_folders = folder / "ok", [folder / "ng"]
    else:
        first, colon, others = place.partition(":")
        if not colon or not others:
            raise InputError(f"{place}: give a folder with ok and ng in it, or OK_DIR:NG_DIR[,NG_DIR…]")
        ok_folder, ng_folders = Path(first), [Path(each) for each in others.split(",")]
    ok = [path.absolute() for path in list_photos([ok_folder])]
    bad = {path.absolute() for path in list_photos(ng_folders)} - set(ok)
    contents: dict[str, tuple[Path, bool]] = {}
    unreadable, copies = 0, 0
    for photos in iter_photos([*ok, *sorted(bad)], lambda h, w: limit_size(h, w, 224**2), 3):
        for photo in photos:
            unreadable += photo.pixels is None
            copies += photo.content in contents
            if photo.pixels is not None:
                contents.setdefault(photo.content, (photo.path, photo.path in bad))
    counts = {"cannot be read": unreadable, "are copies of others": copies}
    notes = [f"{count} files left out, which {why}" for why, count in counts.items() if count]
    is_ng = np.array([each for _, each in contents.values()], bool)
    if is_ng.sum() < 1 or (~is_ng).sum() < 2:
        raise InputError(
            f"{place}: {(~is_ng).sum()} OK and {is_ng.sum()} NG photographs; give at least 2 and 1"
        )
    return PhotoSet([path for path, _ in contents.values()], is_ng, notes)


def photo_sets(places: Sequence[str], kinds: Sequence[str] = ()) -> Iterator[tuple[str, PhotoSet]]:
    """Name and photographs of the sets of these places, then of generated parts, drawn as they are asked for.

    Raises:
        InputError: a place cannot be used, or there is no such kind; the latter before any set is read.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise not_known("kind of generated parts", kind, KINDS)
    for place in places:
        yield place, read_photo_set(place)
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            write_parts(Path(folder), kind)
            yield f"generated {kind}", read_photo_set(folder)


def compare(
    photos: PhotoSet, encoder: str, *, size: int | None = None, few: int | None = None
) -> dict[str, Any]:
    """Every detector on one set of photographs.

    Args:
        photos: the photographs.
        encoder: `hf:NAME_OR_FOLDER`.
        size: side of photographs for the peers; the backbone's own if `None`.
        few: OK photographs to learn from; `None` is a half.

    Returns:
        For each detector its `auroc` of each seed; for ours also `missed` and `false_rejects` at the stated rate, and
        `ahead`, its AUROC less that of the best single peer. `refused` says why ours did not judge.

    Raises:
        InputError: so few OK photographs are there that none is left to judge.
    """
    backbone = Backbone.load(encoder)
    features = BackboneFeatures(backbone, photos.paths, size)
    ok, ng = np.flatnonzero(~photos.ng), np.flatnonzero(photos.ng)
    number = int(LEARN_SHARE * len(ok)) if few is None else few
    if not 2 <= number < len(ok):
        raise InputError(f"{number} OK photographs to learn from, of {len(ok)}; give 2 to {len(ok) - 1}")
    ours = {f"ours, {name}": each for name, each in {"backbone": encoder, "filters": "filters"}.items()}
    detectors: dict[str, dict[str, Any]] = {name: {"auroc": []} for name in PEERS}
    detectors |= {name: {"auroc": [], "missed": [], "false_rejects": []} for name in ours}
    for seed in range(SEEDS):
        order = np.random.default_rng(seed).permutation(ok)
        learnt, judged = order[:number], np.r_[order[number:], ng]
        truth = photos.ng[judged]
        for name, peer in PEERS.items():
            scores = peer(features, learnt, judged, np.random.default_rng(seed))
            detectors[name]["auroc"].append(float(roc_auc_score(truth, scores)))
        learnt_files, judged_files = ([photos.paths[row] for row in rows] for rows in (learnt, judged))
        for name, extractor in ours.items():
            try:
                scores, rejected = judge_as_a_user(extractor, learnt_files, judged_files, seed)
            except InputError as error:
                detectors[name]["refused"] = str(error)
                continue
            detectors[name]["auroc"].append(float(roc_auc_score(truth, scores)))
            detectors[name]["missed"].append(float(1 - rejected[truth].mean()))
            detectors[name]["false_rejects"].append(float(rejected[~truth].mean()))
        latest = (f"{name} {found['auroc'][-1]:.4f}" for name, found in detectors.items() if found["auroc"])
        print(f"seed {seed}: {', '.join(latest)}", flush=True)
    best = max(PEERS, key=lambda name: np.mean(detectors[name]["auroc"]))
    for name in ours:
        if "refused" not in detectors[name]:
            pairs = zip(detectors[name]["auroc"], detectors[best]["auroc"], strict=True)
            detectors[name]["ahead"] = [mine - its for mine, its in pairs]
    return {
        "encoder": backbone.name,
        "layers": features.layers,
        "grids": [list(grid.shape[1:3]) for grid in features.grids],
        "size": size,
        "learnt_from": number,
        "ok": len(ok),
        "ng": len(ng),
        "notes": photos.notes,
        "rate": RATE,
        "best_peer": best,
        "detectors": detectors,
    }


def table_of(comparison: dict[str, Any]) -> str:
    """One comparison in Markdown; mean ± standard deviation over the seeds."""
    head = (
        "detector",
        "image AUROC",
        "ours − best single peer",
        f"missed at {RATE:.0%}",
        "false rejects realised",
    )
    rows = [head, ("---", "---:", "---:", "---:", "---:")]
    for name, found in comparison["detectors"].items():
        if "refused" in found:
            rows.append((name, f"refused: {found['refused']}", "", "", ""))
            continue
        ahead = _spread(found["ahead"], "+.4f") if "ahead" in found else ""
        rates = [_spread(found[each], ".1%") if each in found else "" for each in ("missed", "false_rejects")]
        rows.append((name, _spread(found["auroc"], ".4f"), ahead, *rates))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _spread(values: Sequence[float], form: str) -> str:
    return f"{np.mean(values):{form}} ± {np.std(values):{form.removeprefix('+')}}"


def main(arguments: Sequence[str] = ()) -> dict[str, Any] | None:
    """Measure and print, from the words behind `judging_peers` on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks judging_peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folders", nargs="*", metavar="FOLDER", help="with ok and ng, or OK_DIR:NG_DIR[,NG_DIR…]"
    )
    parser.add_argument(
        "--generated",
        nargs="*",
        metavar="KIND",
        help=f"generated parts: all kinds, or some of {', '.join(KINDS)}",
    )
    parser.add_argument("--encoder", nargs="+", default=[ENCODER], help="frozen backbones, hf:NAME_OR_FOLDER")
    parser.add_argument("--size", type=int, help="side of photographs for the peers")
    parser.add_argument("--few", nargs="+", type=int, default=[None], help="OK photographs to learn from")
    asked = parser.parse_args(arguments)
    kinds = list(KINDS) if asked.generated == [] else asked.generated or []
    places = asked.folders
    if not places and not kinds:
        places = [place for place in FOLDERS if Path(place.partition(":")[0]).is_dir()]
    if not places and not kinds:
        print(
            "judging_peers: needs a FOLDER, --generated, or MEKIKI_DATA with magnetic_tile or solar_cells_mono"
        )
        return None
    comparisons = []
    try:
        for place, photos in photo_sets(places, kinds):
            for encoder in asked.encoder:
                for few in asked.few:
                    found = {"folder": place} | compare(photos, encoder, size=asked.size, few=few)
                    comparisons.append(found)
                    counts = "{learnt_from} of {ok} OK learnt from, {ng} NG; {encoder}, layers {layers}"
                    print(
                        f"\n{place}: {counts.format(**found)}, grids {found['grids']}, size {found['size']}"
                    )
                    print(*found["notes"], sep="\n")
                    print(table_of(found), flush=True)
    except InputError as error:
        sys.exit(f"judging_peers: {error}")
    return {"comparisons": comparisons}


if __name__ == "__main__":
    main(sys.argv[1:])
