"""A sharpened eye: a copy of a run's convolutions and a reader behind it, which know place and extent.

How it learns is in `mekiki.describing.localise`. What it reads of a photograph is the mean over the photograph
flipped and turned, where places go by the names of a 3×3 grid and so can go along.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn
from torch.nn import functional

from mekiki.cases.encoders import JudgeEncoder, PhotoEncoder
from mekiki.data.image_set import Pixels
from mekiki.data.reports import PLACES
from mekiki.errors import InputError, first_line
from mekiki.judging.features import FeatureExtractor
from mekiki.models.networks import convolution, place_tensors
from mekiki.storage.atomic import recover_folder
from mekiki.storage.json_files import write_json
from mekiki.storage.manifest import Manifest, check_format
from mekiki.storage.run_folder import LOCALISER, LOCALISER_FORMAT, LOCALISER_SETTINGS, LOCALISER_WEIGHTS

Floats = NDArray[np.float32]

GRID = 8
"""Rows and columns of patches at most."""
MARKS = 2
"""Rows and columns of cells that a patch is marked in."""
WIDTH = 96
"""Channels of the reader."""
LEAST_ODDS = 1e-4
"""Below this, what is read is as good as no."""

View8 = tuple[int, bool]
"""Quarter turns, after a flip or none."""


class Sharpened(nn.Module):
    """A copy of a run's convolutions, and a reader of place and extent behind it.

    Args:
        encoder: the run's network, of `mekiki.models.networks.has_place_maps`; a copy is kept.
        input_shape: of one image, `(channels, height, width)`.
        values: the facts it reads, and the values of each.
        marked: whether it marks which kind of defect covers what.

    Attributes:
        fingerprint: equal fingerprints, equal readings; of a sharpened eye that was read from a folder.
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
        self.read = nn.Sequential(*convolution(maps.shape[1], WIDTH), *convolution(WIDTH, WIDTH))
        kinds = 1 + len(self.values.get("defect", ()))
        self.mark = nn.Conv2d(WIDTH, kinds * MARKS * MARKS, 1) if marked else None
        self.narrow = nn.Sequential(nn.Conv2d(WIDTH, 24, 1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2))
        self.tell = nn.Sequential(nn.Linear(24 * rows * columns + WIDTH, 256), nn.ReLU(), nn.Dropout(0.3))
        self.facts = nn.ModuleDict({name: nn.Linear(256, len(each)) for name, each in self.values.items()})
        self.views = _views(self.values, square=height == width)

    def forward(self, stored: Tensor) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        """Of a batch as stored: patches `[B, c, h, w]`, logits of the marks `[B, kinds, 2h, 2w]`, and of the facts."""
        maps = functional.adaptive_max_pool2d(place_tensors(self.encoder, stored), self.grid)
        patches = self.read(maps)
        marks = None if self.mark is None else functional.pixel_shuffle(self.mark(patches), MARKS)
        told = self.tell(torch.cat((self.narrow(patches), patches.mean((2, 3))), 1))
        return patches, marks, {name: head(told) for name, head in self.facts.items()}

    @torch.inference_mode()
    def extract(self, images: Sequence[Pixels]) -> tuple[Floats, list[Floats]]:
        """What it reads of images, float32 `[N, r]`: log-odds of every fact; and their patches, `[h, w, c]` each.

        Behind each patch stand its marks, as shares. An image is read by itself, so it reads the same among others.
        """
        self.eval()
        readings, places = [], []
        for image in images:
            stored = torch.from_numpy(np.array(image[None]))
            patches, marks, facts = self(torch.cat([turned(stored, view) for view in self.views]))
            read = []
            for name, logits in facts.items():
                shares = logits.softmax(1)
                if name == "place":
                    shares = torch.stack(
                        [
                            row[moved_places(self.values, view)]
                            for row, view in zip(shares, self.views, strict=True)
                        ]
                    )
                read.append(torch.logit(shares.mean(0), eps=LEAST_ODDS))
            readings.append(torch.cat(read).numpy())
            seen = patches[0]
            if marks is not None:
                shares = torch.stack(
                    [
                        _turned_back(row[None], view, axes=(2, 3))[0]
                        for row, view in zip(marks.softmax(1), self.views, strict=True)
                    ]
                ).mean(0)
                seen = torch.cat((seen, functional.pixel_unshuffle(shares, MARKS)))
            places.append(np.ascontiguousarray(seen.permute(1, 2, 0).numpy()))
        return np.stack(readings), places

    def save(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Write it into a folder that is there."""
        weights = {
            name: value.detach().cpu().contiguous().clone() for name, value in self.state_dict().items()
        }
        save_file(weights, folder / LOCALISER_WEIGHTS)
        write_json(
            folder / LOCALISER_SETTINGS,
            {"format": LOCALISER_FORMAT, "values": self.values, "marked": self.mark is not None, **facts},
        )


def eye_of(view: PhotoEncoder) -> Any:
    """The eye behind a view of photographs."""
    return view.inspector.extractor if isinstance(view, JudgeEncoder) else view.extractor  # type: ignore[attr-defined]


def sharpened(run: Path, extractor: Any) -> Sharpened | None:
    """The sharpened eye of a run; `None` where it was never sharpened.

    Raises:
        InputError: it was sharpened for another network than the run has now, or cannot be read.
    """
    folder = run / LOCALISER
    recover_folder(folder)
    if not folder.is_dir():
        return None
    try:
        manifest = Manifest.of(folder, fix="`mekiki sharpen` again", quiet=True)
        facts = json.loads(manifest.read(LOCALISER_SETTINGS))
        weights = load(manifest.read(LOCALISER_WEIGHTS))
        known, learnt_for, values, marked = (facts[each] for each in ("format", "eye", "values", "marked"))
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(f"{folder}: cannot be read ({first_line(error)}); `mekiki sharpen` again") from None
    check_format(folder / LOCALISER_SETTINGS, known, LOCALISER_FORMAT)
    if not can_be_sharpened(extractor) or learnt_for != extractor.fingerprint:
        raise InputError(
            f"{folder}: was sharpened for another network than {run.name} has now; `mekiki sharpen` again, or remove "
            "the folder"
        )
    sharp = Sharpened(extractor.embedder.encoder_, extractor.embedder.input_shape_, values, marked=marked)
    try:
        sharp.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{folder}: cannot be read ({first_line(error)}); `mekiki sharpen` again") from None
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].numpy().tobytes())
    sharp.fingerprint = digest.hexdigest()[:32]
    return sharp.eval()


def turned(stored: Tensor, view: View8, axes: tuple[int, int] = (1, 2)) -> Tensor:
    """Images flipped and turned.

    Example:
        >>> turned(torch.tensor([[[1, 2], [3, 4]]]), (1, False)).tolist()
        [[[2, 4], [1, 3]]]
    """
    turns, flip = view
    return torch.rot90(stored.flip(axes[1]) if flip else stored, turns, axes)


def _turned_back(stored: Tensor, view: View8, axes: tuple[int, int]) -> Tensor:
    turns, flip = view
    back = torch.rot90(stored, -turns, axes)
    return back.flip(axes[1]) if flip else back


def moved_places(values: Mapping[str, Sequence[str]], view: View8) -> Tensor:
    """Where each value of `place` comes to lie, int64 `[values]`, when a photograph is turned so.

    Example:
        >>> values = {"place": [*PLACES, "none"]}
        >>> [values["place"][i] for i in moved_places(values, (1, False))[[0, 1, 9]]]
        ['lower left', 'left', 'none']
    """
    names = list(values["place"])
    moved = list(range(len(names)))
    if set(PLACES) <= set(names):
        cells = turned(torch.arange(9).view(1, 3, 3), view).flatten().tolist()
        for new, old in enumerate(cells):
            moved[names.index(PLACES[old])] = names.index(PLACES[new])
    return torch.tensor(moved)


def _views(values: Mapping[str, Sequence[str]], *, square: bool) -> list[View8]:
    """The ways in which a photograph may be turned, itself the first."""
    names = set(values.get("place", ()))
    if not set(PLACES) <= names:  # places by other names, of which nothing says where they move
        return [(0, False)]
    return [(turns, flip) for flip in (False, True) for turns in ((0, 1, 2, 3) if square else (0, 2))]


def can_be_sharpened(extractor: FeatureExtractor) -> bool:
    """Whether an eye is a convolutional network that was trained here."""
    return extractor.embedder is not None and extractor.has_place_features
