"""Vectors of parts from photographs, as a describer takes them: the whole vector, and patches on a coarse grid.

The whole vector is the one under which cases are remembered: that of the calibrated judge, or of the trained network.
It was made to tell defect types apart and may have lost where a defect is, so patches come with it: the feature
extractor's, pooled to at most `GRID` × `GRID` cells by maximum, because a defect is small and a mean would hide it.
Where the run has a localiser, its predictions are appended to the whole vector, and the patches are the localiser's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from mekiki.cases.encoders import PhotoEncoder, open_photo_encoder
from mekiki.console import Progress, silent
from mekiki.data.image_set import Pixels
from mekiki.data.photo import Photo, map_photos
from mekiki.describing.localiser import GRID, Localiser
from mekiki.describing.projector import PartVectors
from mekiki.errors import InputError
from mekiki.judging.extractors import ScatteringExtractor
from mekiki.storage.atomic import recover_folder
from mekiki.storage.run_folder import LOCALISER

Floats = NDArray[np.float32]


class PartExtractor:
    """Photographs → vectors of parts, by the encoder of a run folder and its localiser, if there is one.

    Args:
        run: the run folder, calibrated or trained.
        encoder: its photo encoder, where that is open already.

    Attributes:
        name: name of the encoder.
        fingerprint: equal fingerprints mean equal vectors.

    Raises:
        InputError: the run is neither calibrated nor trained, or its localiser is of another network.
    """

    def __init__(self, run: Path, encoder: PhotoEncoder | None = None) -> None:
        self._encoder = encoder or open_photo_encoder(run)
        self._extractor = self._encoder.extractor
        info = self._encoder.info
        self.name, self.fingerprint = info.name, f"{info.fingerprint} on {GRID}×{GRID}"
        self._filters: ScatteringExtractor | None = None
        if not self._extractor.has_place_features:
            # A perceptron sees no places; the filters do, and need no weights.
            self._filters = ScatteringExtractor()
            self.name += ", places by filters"
        folder = run / LOCALISER
        recover_folder(folder)
        self._localiser: Localiser | None = None
        if folder.is_dir():
            self._localiser = Localiser.load(folder, self._extractor)
            self.name += ", with its localiser"
            # The same words as when the localiser was called so, because describers keep this fingerprint.
            self.fingerprint += f", sharpened {self._localiser.fingerprint}"

    def extract(
        self, paths: Sequence[Path], *, progress: Progress = silent
    ) -> Iterator[tuple[Photo, PartVectors | None]]:
        """Each photograph in order, with the vectors of its one part, or `None` if it cannot be read."""
        frame, channels = self._extractor.frame, self._extractor.channels
        return map_photos(
            paths, frame, channels, self._vectors, progress=progress, label="extracting features"
        )

    def _vectors(self, images: Sequence[Pixels]) -> Iterator[PartVectors]:
        features = self._extractor.extract(images)
        # Row by row, so that a vector does not depend on the others.
        whole = np.concatenate([self._encoder.vectors(row.groups) for row in features.rows()])
        if self._localiser is not None:
            predictions, maps = self._localiser.extract(images)
            whole = np.concatenate([whole, predictions], axis=1)
        elif self._filters is not None:
            maps = self._filters.place_features(images, self._filters.extract(images))
        else:
            maps = self._extractor.place_features(images, features)
        for row, grid in zip(whole, maps, strict=True):
            yield PartVectors(row[None], pool_maximum(grid)[None])


def pixels_of(photo: Photo, texts: Path) -> Pixels:
    """The pixels of a photograph that a table of texts names.

    Raises:
        InputError: it cannot be read.
    """
    if photo.pixels is None:
        raise InputError(f"{photo.path}: {photo.problem}; fix it, or leave it out of {texts}")
    return photo.pixels


def pool_maximum(patches: Floats) -> Floats:
    """Patches `[h, w, c]` pooled by maximum to a grid of at most `GRID` × `GRID` cells.

    Example:
        >>> pool_maximum(np.arange(16, dtype=np.float32).reshape(1, 16, 1))[0, :, 0]
        array([ 1.,  3.,  5.,  7.,  9., 11., 13., 15.], dtype=float32)
    """
    maps = torch.from_numpy(np.ascontiguousarray(patches)).permute(2, 0, 1)
    cells = functional.adaptive_max_pool2d(maps, tuple(min(GRID, side) for side in maps.shape[1:]))
    return np.ascontiguousarray(cells.permute(1, 2, 0).numpy())
