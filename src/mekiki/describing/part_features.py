"""What a run folder looks with, for describing: of each photograph the whole vector, and vectors place by place.

The whole vector is the one that cases are remembered by: in the judge's space, or what the trained network gives. It
was made to tell kinds apart, so where something is may be lost in it. So patches come along: what the eye saw, on a
grid of at most `GRID` × `GRID`, of each item the largest value in each cell, because a defect is small and a mean
would drown it. Where the eye was sharpened (`mekiki.describing.localise`), what it reads of place and extent stands
behind the whole vector, and the patches are those of the sharpened eye.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mekiki.cases.encoders import JudgeEncoder, PhotoEncoder, RunEncoder, open_photo_encoder
from mekiki.console import Progress, silent
from mekiki.data.image_set import Pixels
from mekiki.data.photo import map_photos
from mekiki.describing.localiser import GRID, Sharpened, eye_of, sharpened
from mekiki.judging.extractors import ScatteringExtractor
from mekiki.judging.features import FeatureExtractor

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Looked:
    """One photograph and its vectors.

    Attributes:
        path: the file.
        pixels: as the eye saw it; `None` if it could not be read.
        whole: float32 `[d]`, or `None`.
        places: float32 `[h, w, c]`, or `None`.
        problem: why it could not be read.
    """

    path: Path
    pixels: Pixels | None
    whole: Floats | None
    places: Floats | None
    problem: str = ""


class Look:
    """Vectors of photographs as a run folder makes them.

    Args:
        view: what makes the whole vectors.
        sharp: what reads place and extent, where the run's eye was sharpened.

    Attributes:
        name: whose vectors they are.
        fingerprint: equal fingerprints, equal vectors.
    """

    def __init__(self, view: PhotoEncoder, sharp: Sharpened | None = None) -> None:
        assert isinstance(view, JudgeEncoder | RunEncoder)
        self._view = view
        self._eye: FeatureExtractor = eye_of(view)
        self._filters: ScatteringExtractor | None = None
        if not self._eye.has_place_features:
            # A perceptron has no places of its own; filters have, and need no weights.
            self._filters = ScatteringExtractor()
        self._sharp = sharp
        self.name = view.info.name + (", places by filters" if self._filters else "")
        self.fingerprint = f"{view.info.fingerprint} on {GRID}×{GRID}"
        if sharp is not None:
            self.name += ", sharpened"
            self.fingerprint += f", sharpened {sharp.fingerprint}"

    def extract(self, paths: Sequence[Path], *, progress: Progress = silent) -> Iterator[Looked]:
        """Look at files, in order; one that cannot be read is told."""
        frame, channels = self._eye.frame, self._eye.channels
        for photo, vectors in map_photos(
            paths, frame, channels, self._seen, progress=progress, label="looking at photographs"
        ):
            whole, places = vectors or (None, None)
            yield Looked(photo.path, photo.pixels, whole, places, photo.problem)

    def _seen(self, images: Sequence[Pixels]) -> Iterator[tuple[Floats, Floats]]:
        features = self._eye.extract(images)
        if isinstance(self._view, RunEncoder):
            whole = features.groups["embedding"]
        else:
            whole = np.concatenate([self._view.vectors(row.groups) for row in features.rows()])
        if self._sharp is not None:
            read, maps = self._sharp.extract(images)
            whole = np.concatenate([whole, read], axis=1)
        elif self._filters is not None:
            maps = self._filters.place_features(images, self._filters.extract(images))
        else:
            maps = self._eye.place_features(images, features)
        yield from zip(whole, (pooled(each) for each in maps), strict=True)


def look_of(run: Path, view: PhotoEncoder | None = None) -> Look:
    """What a run folder looks with: its judge if it is calibrated, else its network.

    Args:
        run: the run folder.
        view: the same, where it is open already.

    Raises:
        InputError: it is neither calibrated nor trained.
    """
    view = view or open_photo_encoder(run)
    return Look(view, sharpened(run, eye_of(view)))


def pooled(patches: Floats) -> Floats:
    """Patches on a grid of at most `GRID` × `GRID`, of each item the largest in a cell: `[h, w, c]` → `[H, W, c]`.

    Example:
        >>> pooled(np.arange(16, dtype=np.float32).reshape(1, 16, 1))[0, :, 0]
        array([ 1.,  3.,  5.,  7.,  9., 11., 13., 15.], dtype=float32)
    """
    for axis in (0, 1):
        length = patches.shape[axis]
        cells = min(GRID, length)
        cuts = [slice(i * length // cells, -(-(i + 1) * length // cells)) for i in range(cells)]
        moved = np.moveaxis(patches, axis, 0)
        patches = np.moveaxis(np.stack([moved[cut].max(axis=0) for cut in cuts]), 0, axis)
    return np.ascontiguousarray(patches, np.float32)
