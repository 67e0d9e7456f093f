"""−log p of scores among those of OK parts: one scale for scores of different units and tails."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mekiki.judging.tensor_blocks import to_tensor

TAIL_SHARE = 0.1
"""Share of the reference scores, the largest, that counts as their tail."""
_TAIL_LEAST = 10


def count_at_least(known: Tensor, scores: Tensor) -> Tensor:
    """For each score, the number of known scores at least as large: `[n]`, `[N]` → int64 `[N]`."""
    return (known[None] >= scores[:, None]).sum(1)


class NegLogP(nn.Module):
    """−log p of scores among reference scores of OK parts: float64 `[N]` → `[N]`, 0 or more.

    It brings scores of other units and tails to one scale. Beyond the largest tenth of the reference scores (at least
    10) it goes on as a straight line, as in an exponential tail, so that parts far out do not tie. The line need not be
    true, because the joined score is calibrated afterwards on other OK parts.

    Args:
        reference: scores `[n]` of OK parts, finite.

    Example:
        >>> neg_log_p = NegLogP(np.arange(100.0))
        >>> neg_log_p(torch.tensor([50.0, 200.0, 2000.0], dtype=torch.float64)).round(decimals=1).tolist()
        [0.7, 22.4, 349.7]
    """

    def __init__(self, reference: NDArray[Any]) -> None:
        super().__init__()
        known = np.sort(np.asarray(reference, np.float64))
        beyond = min(max(round(TAIL_SHARE * len(known)), _TAIL_LEAST), len(known) - 1)
        # In halves, and as shares of the largest, so that scores that span all numbers do not overflow.
        self.start = float(known[-1 - beyond])
        excess = known / 2 - self.start / 2
        unit = float(np.abs(excess).max()) or 1.0
        mean = float((excess[len(known) - beyond :] / unit).mean()) if beyond else 0.0
        # Scores that hardly vary say nothing of their tail.
        self.scale = (mean or float((excess / unit).std()) or 0.5 / unit) * unit
        self.height = float(-np.log((beyond + 1) / (len(known) + 1)))
        self.register_buffer("known", to_tensor(known))

    def forward(self, scores: Tensor) -> Tensor:
        """−log p of each score."""
        known = self.get_buffer("known")
        near = -torch.log((1 + count_at_least(known, scores)).double() / (len(known) + 1))
        line = self.height + (scores / 2 - self.start / 2) / self.scale
        return torch.where(scores > self.start, line, near)
