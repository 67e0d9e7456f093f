"""`Localiser`: a copy of a run's convolutions with a head that predicts where a defect is and how large it is.

A network trained to tell defect types apart has no reason to keep place and extent, and the description cannot contain
what the embedding discarded. So a copy of its convolutions is trained further: on attributes that texts name, and,
where there are masks, on which defect covers which of the `MARKS` × `MARKS` cells of a patch. If places are named by
the cells of a 3×3 grid, photographs are rotated and flipped in training, their places are mapped along, and a
prediction is the mean over all orientations.

References:
    Long, Shelhamer and Darrell, *Fully Convolutional Networks for Semantic Segmentation*, 2015, arXiv 1411.4038.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn
from torch.nn import functional

from mekiki.console import Progress, silent
from mekiki.data.image_set import Pixels
from mekiki.data.reports import PLACES
from mekiki.describing.part_training import OnEpoch, PartSplit, TrainConfig, fit_model
from mekiki.errors import InputError, first_line
from mekiki.judging.features import FeatureExtractor
from mekiki.models.networks import convolution, place_tensors
from mekiki.storage.json_files import write_json
from mekiki.storage.manifest import Manifest, check_format
from mekiki.storage.run_folder import LOCALISER_FORMAT, LOCALISER_SETTINGS, LOCALISER_WEIGHTS
from mekiki.training.fit import History

Floats = NDArray[np.float32]

GRID = 8
"""Maximum number of rows and of columns of patches."""
MARKS = 2
"""Rows and columns of mask cells in a patch."""
WIDTH = 96
"""Channels of the head's convolutions."""
LEAST_SHARE = 1e-4
"""Limits of predicted shares, for finite log-odds."""
MASK_WEIGHT = 2.0
"""Weight of the masks' loss beside the attributes' loss."""

Orientation = tuple[int, bool]
"""Number of quarter turns, and whether there is a flip before them."""


class Localiser(nn.Module):
    """A copy of a run's convolutions, and a head for place and extent.

    Args:
        encoder: the run's network, for which `mekiki.models.networks.has_place_maps` holds; it is copied.
        input_shape: shape of one image, `(channels, height, width)`.
        values: the values of each predicted attribute.
        marked: whether it predicts masks: which defect covers which cell.

    Attributes:
        fingerprint: equal fingerprints mean equal predictions; set by `load`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Sequence[int],
        values: Mapping[str, Sequence[str]],
        *,
        marked: bool,
    ) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        self.values = {name: list(each) for name, each in values.items()}
        self.fingerprint = ""
        channels, height, width = input_shape
        with torch.no_grad():
            shape = (1, height, width) if channels == 1 else (1, height, width, channels)
            maps = place_tensors(self.encoder.eval(), torch.zeros(shape, dtype=torch.uint8))
        rows, columns = (min(GRID, size) for size in maps.shape[2:])
        self.grid = (rows, columns)
        # The names of these modules are those of the stored weights.
        self.read = nn.Sequential(*convolution(maps.shape[1], WIDTH), *convolution(WIDTH, WIDTH))
        defects = 1 + len(self.values.get("defect", ()))
        self.mark = nn.Conv2d(WIDTH, defects * MARKS * MARKS, 1) if marked else None
        self.narrow = nn.Sequential(nn.Conv2d(WIDTH, 24, 1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2))
        self.tell = nn.Sequential(nn.Linear(24 * rows * columns + WIDTH, 256), nn.ReLU(), nn.Dropout(0.3))
        self.facts = nn.ModuleDict({name: nn.Linear(256, len(each)) for name, each in self.values.items()})
        self.orientations = _orientations(self.values, square=height == width)

    def forward(self, stored: Tensor) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        """Patches `[B, c, h, w]`, logits of the masks `[B, 1 + defects, 2h, 2w]`, and logits of the attributes.

        Args:
            stored: images as stored, uint8 `[B, …]`.
        """
        maps = functional.adaptive_max_pool2d(place_tensors(self.encoder, stored), self.grid)
        patches = self.read(maps)
        marks = None if self.mark is None else functional.pixel_shuffle(self.mark(patches), MARKS)
        features = self.tell(torch.cat((self.narrow(patches), patches.mean((2, 3))), 1))
        return patches, marks, {name: head(features) for name, head in self.facts.items()}

    @torch.inference_mode()
    def extract(self, images: Sequence[Pixels]) -> tuple[Floats, list[Floats]]:
        """Log-odds of every value of the attributes, float32 `[N, r]`, and the patches of each image, `[h, w, c]`.

        The predicted shares of the masks are appended to each patch. Images are processed one by one, so a prediction
        does not depend on the others.
        """
        self.eval()
        predictions, places = [], []
        for image in images:
            stored = torch.from_numpy(np.array(image[None]))
            patches, marks, logits = self(torch.cat([rotate(stored, each) for each in self.orientations]))
            log_odds = []
            for name, rows in logits.items():
                shares = rows.softmax(1)
                if name == "place":
                    moved = [moved_places(self.values, each) for each in self.orientations]
                    shares = torch.stack([row[index] for row, index in zip(shares, moved, strict=True)])
                log_odds.append(torch.logit(shares.mean(0), eps=LEAST_SHARE))
            predictions.append(torch.cat(log_odds).numpy())
            patch = patches[0]
            if marks is not None:
                pairs = zip(marks.softmax(1), self.orientations, strict=True)
                shares = torch.stack([_rotate_back(row, each) for row, each in pairs]).mean(0)
                patch = torch.cat((patch, functional.pixel_unshuffle(shares, MARKS)))
            places.append(np.ascontiguousarray(patch.permute(1, 2, 0).numpy()))
        return np.stack(predictions), places

    def save(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        """Write it into an existing folder."""
        weights = {
            name: value.detach().cpu().contiguous().clone() for name, value in self.state_dict().items()
        }
        save_file(weights, folder / LOCALISER_WEIGHTS)
        write_json(
            folder / LOCALISER_SETTINGS,
            {"format": LOCALISER_FORMAT, "values": self.values, "marked": self.mark is not None, **metadata},
        )

    @classmethod
    def load(cls, folder: Path, extractor: FeatureExtractor) -> Localiser:
        """Read what `save` wrote.

        Args:
            folder: the folder.
            extractor: the feature extractor of the run.

        Raises:
            InputError: it cannot be read, or is a localiser of another network.
        """
        try:
            manifest = Manifest.of(folder, fix="`mekiki localise` again", quiet=True)
            metadata = json.loads(manifest.read(LOCALISER_SETTINGS))
            check_format(
                folder / LOCALISER_SETTINGS,
                metadata["format"],
                LOCALISER_FORMAT,
                fix="`mekiki localise` again",
            )
            embedder = extractor.embedder
            if embedder is None or metadata["eye"] != extractor.fingerprint:
                raise InputError(
                    f"{folder}: was trained for another network than {folder.parent.name} has now; "
                    "`mekiki localise` again, or remove the folder"
                )
            weights = load(manifest.read(LOCALISER_WEIGHTS))
            localiser = cls(
                embedder.encoder_, embedder.input_shape_, metadata["values"], marked=metadata["marked"]
            )
            localiser.load_state_dict(weights)
        except InputError:
            raise
        except (OSError, ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
            raise InputError(
                f"{folder}: cannot be read ({first_line(error)}); `mekiki localise` again"
            ) from None
        digest = hashlib.sha256()
        for name in sorted(weights):
            digest.update(name.encode() + weights[name].numpy().tobytes())
        localiser.fingerprint = digest.hexdigest()[:32]
        return localiser.eval()


def rotate(stored: Tensor, orientation: Orientation, axes: tuple[int, int] = (1, 2)) -> Tensor:
    """Images in another orientation.

    Example:
        >>> rotate(torch.tensor([[[1, 2], [3, 4]]]), (1, False)).tolist()
        [[[2, 4], [1, 3]]]
    """
    turns, flip = orientation
    return torch.rot90(stored.flip(axes[1]) if flip else stored, turns, axes)


def _rotate_back(stored: Tensor, orientation: Orientation) -> Tensor:
    """The inverse of `rotate` for one image `[c, h, w]`."""
    turns, flip = orientation
    back = torch.rot90(stored, -turns, (1, 2))
    return back.flip(2) if flip else back


def moved_places(values: Mapping[str, Sequence[str]], orientation: Orientation) -> Tensor:
    """For each value of `place`, the number of its value after `rotate`: int64 `[values]`.

    Example:
        >>> values = {"place": [*PLACES, "none"]}
        >>> [values["place"][i] for i in moved_places(values, (1, False))[[0, 1, 9]]]
        ['lower left', 'left', 'none']
    """
    names = list(values["place"])
    moved = list(range(len(names)))
    if set(PLACES) <= set(names):
        cells = rotate(torch.arange(9).view(1, 3, 3), orientation).flatten().tolist()
        for new, old in enumerate(cells):
            moved[names.index(PLACES[old])] = names.index(PLACES[new])
    return torch.tensor(moved)


def _orientations(values: Mapping[str, Sequence[str]], *, square: bool) -> list[Orientation]:
    """The orientations in which a photograph may be shown, its own first."""
    if not set(PLACES) <= set(values.get("place", ())):  # it is unknown how places by other names move
        return [(0, False)]
    return [(turns, flip) for flip in (False, True) for turns in ((0, 1, 2, 3) if square else (0, 2))]


@dataclass(frozen=True, eq=False)
class LocaliserData:
    """Training data of a localiser.

    Attributes:
        images: as stored, uint8 `[N, …]`.
        targets: number of the value of each attribute, int64 `[N]`; −1 where it is not known.
        marks: uint8 `[N, 2h, 2w]`, 0 for no defect, else 1 + number of the defect; `None` without masks.
    """

    images: Tensor
    targets: Mapping[str, NDArray[np.int64]]
    marks: Tensor | None = None


def fit_localiser(
    localiser: Localiser,
    data: LocaliserData,
    split: PartSplit,
    config: TrainConfig,
    checkpoint: Path,
    *,
    resume: bool = False,
    progress: Progress = silent,
    on_epoch: OnEpoch | None = None,
) -> History:
    """Train a localiser; the history has the training loss and the validation accuracy of each attribute.

    Raises:
        InputError: with `resume`, the checkpoint is of other settings or texts.
    """

    def batches(epoch: int) -> tuple[int, Iterable[tuple[NDArray[np.intp], Orientation]]]:
        rng = np.random.default_rng((config.seed, epoch))
        localiser.train()
        order = rng.permutation(split.train)
        rows = [order[start : start + config.batch] for start in range(0, len(order), config.batch)]
        rows = [each for each in rows if len(each) > 1]  # batch normalisation cannot train on a single image
        choices = localiser.orientations
        drawn = [choices[int(rng.integers(len(choices)))] for _ in rows]
        return -(-len(order) // config.batch), zip(rows, drawn, strict=True)

    def step(batch: tuple[NDArray[np.intp], Orientation]) -> tuple[Tensor, int]:
        return _loss(localiser, data, *batch), len(batch[0])

    history = fit_model(
        localiser,
        batches,
        step,
        lambda: _accuracy(localiser, data, split.validation),
        config,
        label="training the localiser",
        settings={"parts": len(split.train), "values": localiser.values},
        checkpoint=checkpoint,
        resume=resume,
        progress=progress,
        on_epoch=on_epoch,
    )
    localiser.eval()
    return history


def _loss(
    localiser: Localiser, data: LocaliserData, rows: NDArray[np.intp], orientation: Orientation
) -> Tensor:
    _, marks, logits = localiser(rotate(data.images[rows], orientation))
    loss = torch.zeros(())
    for name, scores in logits.items():
        target = torch.from_numpy(data.targets[name][rows])
        known = target >= 0
        if name == "place":
            target = torch.where(known, moved_places(localiser.values, orientation)[target], target)
        if known.any():
            loss = loss + functional.cross_entropy(scores, target, ignore_index=-1)
    if marks is not None and data.marks is not None:
        covered = rotate(data.marks[rows], orientation).long()
        loss = loss + MASK_WEIGHT * functional.cross_entropy(marks, covered)
    return loss


def _accuracy(localiser: Localiser, data: LocaliserData, rows: NDArray[np.intp]) -> dict[str, float]:
    """Accuracy of each attribute, from the photographs in their own orientation only."""
    localiser.eval()
    scores: dict[str, list[Tensor]] = {name: [] for name in localiser.values}
    with torch.inference_mode():
        for start in range(0, len(rows), 256):
            _, _, logits = localiser(data.images[rows[start : start + 256]])
            for name, batch in logits.items():
                scores[name].append(batch)
    return _share_right(data, rows, {name: torch.cat(each).numpy() for name, each in scores.items()})


def localiser_accuracy(localiser: Localiser, data: LocaliserData, rows: NDArray[np.intp]) -> dict[str, float]:
    """Accuracy of each attribute, predicted as by `Localiser.extract`."""
    predictions, _ = localiser.extract([image.numpy() for image in data.images[rows]])
    ends = np.cumsum([len(each) for each in localiser.values.values()])[:-1]
    columns = zip(localiser.values, np.split(predictions, ends, axis=1), strict=True)
    return _share_right(data, rows, dict(columns))


def _share_right(
    data: LocaliserData, rows: NDArray[np.intp], scores: Mapping[str, NDArray[np.float32]]
) -> dict[str, float]:
    """Share of the known values with the highest score; NaN where none is known."""
    shares = {}
    for name, columns in scores.items():
        target = data.targets[name][rows]
        right = (columns.argmax(1) == target)[target >= 0]
        shares[name] = float(right.mean()) if len(right) else float("nan")
    return shares
