"""What a `Judge` is taught and what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CORRECTION_COLUMN = "lessons"
"""Name, in results, of the last column of `JudgeResult.neg_log_p` once NG parts have been taught."""


@dataclass(frozen=True, eq=False)
class TaughtPart:
    """A part whose verdict a person corrected.

    Attributes:
        ng: the right verdict.
        features: the part in each feature group, `[d]` or `[h, w, c]` by name.
        note: text that names the correction, such as `"scratch (taught 2026-11-24)"`.
        defect_type: empty for OK.
    """

    ng: bool
    features: Mapping[str, NDArray[Any]]
    note: str = ""
    defect_type: str = ""


@dataclass(frozen=True, eq=False)
class UnseenNG:
    """Verdicts on NG parts by corrections that they had no part in.

    Attributes:
        known: bool `[q]`, of the parts of `Judge.learn_ng`.
        copies: bool `[q]`, which of these are near copies of corrected parts.
        corrections: by note, of each NG correction as the others alone would have it; those that are near copies of
            others are not among them.
    """

    known: NDArray[np.bool_]
    copies: NDArray[np.bool_]
    corrections: dict[str, bool]

    def compare(self, after: UnseenNG) -> tuple[int, int, int]:
        """The number of NG parts that are unseen now and `after`, and how many of them are missed now and then."""
        same = ~(self.copies | after.copies)
        both = self.corrections.keys() & after.corrections.keys()
        pairs = [(self.corrections[name], after.corrections[name]) for name in both]
        now = int((~self.known[same]).sum()) + sum(not ng for ng, _ in pairs)
        then = int((~after.known[same]).sum()) + sum(not ng for _, ng in pairs)
        return int(same.sum()) + len(pairs), now, then


@dataclass(frozen=True, eq=False)
class Slopes:
    """Half the gradient of D² in a feature group.

    D² is (x − centre)·gradient. It is divided by the mean D² of good parts.

    Attributes:
        centre: float64 `[d]`, the mean of the unit space.
        gradient: float64 `[N, d]`, half the gradient at each part.
    """

    centre: Floats
    gradient: Floats


@dataclass(frozen=True, eq=False)
class JudgeResult:
    """Verdicts on N parts.

    Attributes:
        ng: bool `[N]`.
        score: float64 `[N]`, larger = farther from good, never clamped; parts are ranked by it.
        p: float64 `[N]` in (0, 1], the conformal p-value; NG means p ≤ the stated rate.
        neg_log_p: float64 `[N, groups]`, −log p of each group alone. Beyond most OK parts it is extrapolated linearly
            in the group's score; see `NegLogP`. 0 for groups that do not count. After NG corrections one more column:
            what these add to the score.
        groups: the names of the columns of `neg_log_p`.
        nearest: int64 `[N]`, position of the correction that a part is a near copy of, or of the NG correction that it
            departs like most; −1 where there is none, or it departs more like another NG part that is known.
        whitened: float32 `[N, Σd]`, the parts in the common space of all groups of vectors; see `Judge.whiten`.
    """

    ng: NDArray[np.bool_]
    score: Floats
    p: Floats
    neg_log_p: Floats
    groups: tuple[str, ...]
    nearest: NDArray[np.int64]
    whitened: NDArray[np.float32]

    def leading_groups(self) -> list[str]:
        """For each part the group with the largest −log p."""
        return [self.groups[place] for place in np.argmax(self.neg_log_p, axis=1)]
