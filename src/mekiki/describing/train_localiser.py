"""`mekiki localise`: train a localiser for a run and keep it in the run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mekiki.cases.encoders import open_photo_encoder
from mekiki.console import Progress, silent
from mekiki.data.decoding import decode_mask
from mekiki.data.photo import map_photos
from mekiki.describing.localiser import MARKS, Localiser, LocaliserData, fit_localiser, localiser_accuracy
from mekiki.describing.part_features import pixels_of
from mekiki.describing.part_training import OnEpoch, TrainConfig, split_parts
from mekiki.describing.texts import PartText, find_photos, read_texts, values_of
from mekiki.errors import InputError
from mekiki.storage.json_files import finite
from mekiki.storage.lock import hold_lock
from mekiki.storage.manifest import replace_folder_with_manifest
from mekiki.storage.run_folder import LOCALISER, LOCALISER_CHECKPOINT
from mekiki.storage.training_run import versions


def train_localiser(
    run: Path,
    texts: Path,
    *,
    masks: Path | None = None,
    config: TrainConfig | None = None,
    resume: bool = False,
    command: str = "",
    progress: Progress = silent,
    on_epoch: OnEpoch | None = None,
) -> dict[str, Any]:
    """Train a copy of a run's convolutions to predict place and extent, and keep it in the run folder in one step.

    Train on other parts than those that the describer is trained on: predictions for training images are better than
    for new ones, and a describer trained on such predictions relies on them too much.

    Args:
        run: run folder with a convolutional network.
        texts: .csv file of texts with the columns defect, place and severity.
        masks: folder of masks under the names in the texts; a part without a mask has no defect cells.
        config: settings of the training.
        command: the command line, for the record.
        resume: continue an interrupted training.
        progress: called after each step.
        on_epoch: called with the history's row after each epoch.

    Returns:
        `right`, the accuracy of each attribute on test parts; `frequent`, the share of the most frequent value; the
        number of `parts`, of `marked` parts with a mask, and of `epochs`.

    Raises:
        InputError: the run has no convolutional network of its own, or too few texts have the attributes.
    """
    config = config or TrainConfig(epochs=12, batch=96, rate=4e-3, decay=0.02)
    extractor = open_photo_encoder(run).extractor
    embedder = extractor.embedder
    if embedder is None or not extractor.has_place_features:
        raise InputError(
            f"{run}: has no convolutional network of its own, which a localiser needs; train one with --encoder vgg "
            "or conv"
        )
    files, part_texts = find_photos(read_texts(texts), texts)
    values = values_of(part_texts)
    if not values:
        raise InputError(
            f"{texts}: no line has defect, place and severity, which a localiser is trained to predict"
        )
    split = split_parts(part_texts, config)
    with hold_lock(run / LOCALISER, "training a localiser", timeout=0, role="training"):
        photos = map_photos(
            files, extractor.frame, extractor.channels, lambda pixels: pixels, progress=progress
        )
        images = [pixels_of(photo, texts) for photo, _ in photos]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            localiser = Localiser(embedder.encoder_, embedder.input_shape_, values, marked=masks is not None)
            marks = None
            if masks is not None:
                shape = (MARKS * localiser.grid[0], MARKS * localiser.grid[1])
                marks = _read_marks(masks, files, texts, images[0].shape[:2], shape, part_texts, progress)
            data = LocaliserData(
                torch.from_numpy(np.stack(images)), _targets(part_texts, values, len(files)), marks
            )
            checkpoint = run / LOCALISER_CHECKPOINT
            history = fit_localiser(
                localiser,
                data,
                split,
                config,
                checkpoint,
                resume=resume,
                progress=progress,
                on_epoch=on_epoch,
            )
        test_targets = {name: data.targets[name][split.test] for name in values}
        result = {
            "right": localiser_accuracy(localiser, data, split.test),
            "frequent": {
                name: float(np.bincount(column[column >= 0], minlength=1).max() / max(1, (column >= 0).sum()))
                for name, column in test_targets.items()
            },
            "parts": len(files),
            "marked": 0 if marks is None else int((marks.amax((1, 2)) > 0).sum()),
            "epochs": len(history["epoch"]),
        }
        metadata = {
            "eye": extractor.fingerprint,
            **result,
            "schooling": config.to_dict(),
            "history": history,
            "texts": str(texts),
            "masks": None if masks is None else str(masks),
            "command": command,
            "versions": versions(),
        }
        with replace_folder_with_manifest(run / LOCALISER, run, "writing its localiser") as new:
            localiser.save(new, finite(metadata))
        for path in run.glob(f"*{LOCALISER_CHECKPOINT}"):
            path.unlink()
    return result


def _targets(
    texts: Sequence[PartText], values: Mapping[str, Sequence[str]], number: int
) -> dict[str, NDArray[np.int64]]:
    targets = {name: np.full(number, -1, np.int64) for name in values}
    for text in texts:
        for name, names in values.items():
            if text.fields.get(name) in names:
                targets[name][text.part] = list(names).index(text.fields[name])
    return targets


def _read_marks(
    folder: Path,
    files: Sequence[Path],
    texts: Path,
    size: tuple[int, int],
    shape: tuple[int, int],
    part_texts: Sequence[PartText],
    progress: Progress,
) -> Tensor:
    """Which defect covers which cell: uint8 `[N, *shape]`, 0 for none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one of masks, under the names that {texts} gives")
    defects = values_of(part_texts)["defect"]
    defect_of = {text.part: text.fields.get("defect") for text in part_texts}
    marks = torch.zeros((len(files), *shape), dtype=torch.uint8)
    number = 0
    for part, file in enumerate(files):
        relative = file.relative_to(texts.parent) if file.is_relative_to(texts.parent) else Path(file.name)
        candidates = (folder / relative, (folder / relative).with_suffix(".png"))
        path = next((each for each in candidates if each.is_file()), None)
        defect = defect_of.get(part)
        if path is not None and defect in defects:
            number += 1
            mask = torch.from_numpy(decode_mask(path, size).astype(np.float32))[None, None]
            covered = functional.adaptive_max_pool2d(mask, shape)[0, 0] > 0
            marks[part] = covered * (1 + defects.index(defect))
        progress("reading masks", part + 1, len(files))
    if not number:
        raise InputError(f"{folder}: holds no mask by the names that {texts} gives, such as {files[0].name}")
    return marks
