"""Settings of training on texts about parts, and the split of the parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.describing.texts import PartText
from mekiki.errors import InputError

LEAST_PARTS = 40
"""Parts with a text that training needs."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of the training of a describer or a localiser.

    Attributes:
        epochs: maximum number of epochs.
        patience: epochs without improvement after which a describer's training stops.
        batch: answers (describer) or photographs (localiser) in one step.
        rate: highest learning rate of AdamW.
        decay: weight decay.
        held_out: share of the parts for validation; as many are for the test.
        no_vector: share of a small model's training answers that get zeros in place of their vector.
        seed: seed of the split, the weights and the order.
    """

    epochs: int = 30
    patience: int = 5
    batch: int = 32
    rate: float = 2e-3
    decay: float = 0.01
    held_out: float = 0.1
    no_vector: float = 0.1
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The settings under the keys of the stored files, where `no_vector` is called `blind`."""
        settings = asdict(self)
        return settings | {"blind": settings.pop("no_vector")}


@dataclass(frozen=True, eq=False)
class PartSplit:
    """Rows of the parts for training, for validation (when to stop), and for the test (used for neither)."""

    train: NDArray[np.intp]
    validation: NDArray[np.intp]
    test: NDArray[np.intp]


def split_parts(texts: Sequence[PartText], config: TrainConfig) -> PartSplit:
    """Split the parts that have a text, keeping the parts of a group together.

    Raises:
        InputError: there are fewer than `LEAST_PARTS`.

    Example:
        >>> split = split_parts([PartText(part, "a", "en", {}) for part in range(100)], TrainConfig())
        >>> len(split.train), len(split.validation), len(split.test)
        (80, 10, 10)
    """
    group_of = {text.part: text.group if text.group is not None else f"\0{text.part}" for text in texts}
    groups: dict[str, list[int]] = {}
    for part in sorted(group_of):
        groups.setdefault(group_of[part], []).append(part)
    if len(groups) < LEAST_PARTS:
        raise InputError(
            f"{len(groups)} parts with a text are too few to train on, which takes {LEAST_PARTS}; until then "
            "`mekiki describe` answers from the nearest past cases"
        )
    order = np.random.default_rng(config.seed).permutation(len(groups))
    size = max(8, round(config.held_out * len(groups)))
    members = list(groups.values())

    def rows(chosen: NDArray[np.intp]) -> NDArray[np.intp]:
        return np.array([part for number in chosen for part in members[number]], np.intp)

    return PartSplit(rows(order[2 * size :]), rows(order[:size]), rows(order[size : 2 * size]))
