"""Features of photographs: what a judge compares, and the protocol of what extracts them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mekiki.data.image_set import Pixels
from mekiki.embedder import Embedder
from mekiki.judging.feature_judge import Judge
from mekiki.judging.fine_scale import FineScale

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Features:
    """Features of N photographs.

    Attributes:
        groups: for a `mekiki.judging.Judge`, float32 by name of the feature group: vectors `[N, d]`, and patches
            `[N, h, w, c]` where an extractor has them.
        patches: what the vectors were pooled from, by name and photograph, float32 `[h, w, d]`; empty where an
            extractor has none.
    """

    groups: dict[str, Floats]
    patches: dict[str, list[Floats]] = field(default_factory=dict)

    def rows(self) -> Iterator[Features]:
        """The features of each photograph alone."""
        for row in range(len(next(iter(self.groups.values())))):
            yield Features(
                {name: group[row : row + 1] for name, group in self.groups.items()},
                {name: [grids[row]] for name, grids in self.patches.items()},
            )


class FeatureExtractor(Protocol):
    """From photographs to named feature groups and anomaly maps. Implementations: `mekiki.judging.extractors`.

    Attributes:
        name: as `make_extractor` takes it.
        description: what the export and the page call it.
        channels: 1 or 3, of the pixels it takes.
        fingerprint: equal fingerprints, equal features.
        embedder: the network trained here that it uses, or `None`.
        training_contents: `content_hashes` of the images that network was trained on.
        has_place_features: whether `place_features` works.
        fine: the fine scale of large photographs, or `None`.
    """

    name: str
    description: str
    channels: int
    fingerprint: str
    embedder: Embedder | None
    training_contents: frozenset[int]
    has_place_features: bool
    fine: FineScale | None

    def choose_scale(self, sizes: Sequence[tuple[int, int]], smallest_defect: float | None) -> int:
        """Choose how many pixels of photographs of these sizes are read; called before `frame` and `fit`.

        Args:
            sizes: height and width of the photographs.
            smallest_defect: side in pixels of the smallest defect to be found, or `None`.

        Returns:
            Side in pixels of the smallest defect that can be seen.
        """

    def frame(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that a photograph of this size is read at."""

    def fit(self, blocks: Iterable[Sequence[Pixels]]) -> None:
        """Learn from OK parts what `extract` and `anomaly_maps` need."""

    def extract(self, images: Sequence[Pixels]) -> Features:
        """Features of photographs `[H, W]` or `[H, W, 3]`."""

    def anomaly_maps(self, images: Sequence[Pixels], features: Features, judge: Judge) -> Floats:
        """What each place contributes to the score: float32 `[N, h, w]`."""

    def place_features(self, images: Sequence[Pixels], features: Features) -> list[Floats]:
        """Features place by place, float32 `[h, w, c]` for each photograph."""

    def state(self) -> dict[str, NDArray[Any]]:
        """What `fit` learnt."""

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore what `state` returned."""
