"""Drift alarm: from which part on the p-values of a stream are no longer uniform.

As long as the parts of a line are like the OK parts calibrated on, their p-values are uniform. Two bets are placed
against that: one on small p-values (parts differ more), one on large ones (parts differ less, as when a camera repeats
one picture). A bet multiplies a capital by a factor whose mean is at most 1 under uniformity; a capital below 1 is
replaced by 1, and the bet starts again from there (CUSUM). Without drift an alarm comes at most once in `average_run`
parts (an e-detector: Shin, Ramdas and Rinaldo 2023, arXiv 2203.03532; conformal bets: Vovk, Nouretdinov and Gammerman
2003).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mekiki.errors import InputError

SMALLEST = 0.05
"""P-values below count as this: single NG parts are no drift."""
_POWER = 0.5
_FAVOUR = 2.0


@dataclass(frozen=True)
class Drift:
    """An alarm.

    Attributes:
        since: position in the stream, from 1, at which it seems to have begun.
        at: position at which it was noticed.
        smaller: p-values are too small (parts have moved away from the OK parts), or too large.
    """

    since: int
    at: int
    smaller: bool

    def __str__(self) -> str:
        """The alarm in a sentence."""
        how = "differ from" if self.smaller else "vary less than"
        advice = (
            "a change of light, camera, material or supplier; if it is to stay, calibrate again"
            if self.smaller
            else "a camera that repeats one picture"
        )
        return (
            f"since part {self.since:,} (noticed at {self.at:,}) parts {how} the OK parts calibrated on; "
            f"look for {advice}"
        )


class DriftAlarm:
    """Sequential test of a stream of p-values.

    The bet on small p-values loses 0.19 a part on average if nothing drifts (in logarithms), about four standard
    errors of what the choice of 150 calibration parts can shift it by; so the alarm tolerates the chance in the
    calibration, from about 50 calibration parts on.

    Args:
        average_run: parts between two false alarms, on average, at the least.

    Attributes:
        seen: number of p-values added.

    Raises:
        InputError: `average_run` is not above 1.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> alarm = DriftAlarm()
        >>> drifts = [alarm.add(p) for p in np.r_[rng.uniform(size=300), 0.2 * rng.uniform(size=60)]]
        >>> first = next(drift for drift in drifts if drift)
        >>> 295 < first.since < 310, first.smaller
        (True, True)
    """

    def __init__(self, average_run: float = 10_000) -> None:
        if not average_run > 1:
            raise InputError(
                f"average_run {average_run}: give the parts between two false alarms, more than 1"
            )
        self._limit = math.log(average_run) + math.log(2)  # two bets share what is allowed
        self.seen = 0
        self._capital = {True: 0.0, False: 0.0}
        self._since = {True: 1, False: 1}

    def add(self, p: float) -> Drift | None:
        """Add the next p-value; returns an alarm, and then starts again, or nothing.

        Raises:
            InputError: p is not in (0, 1].
        """
        if not 0 < p <= 1:
            raise InputError(f"p {p}: not a p-value; give a number above 0, up to 1")
        self.seen += 1
        gains = {
            True: math.log(_POWER) - (1 - _POWER) * math.log(max(p, SMALLEST)),
            False: math.log(_FAVOUR) + (_FAVOUR - 1) * math.log(p),
        }
        for smaller, gain in gains.items():
            if self._capital[smaller] + gain <= 0:
                self._capital[smaller], self._since[smaller] = 0.0, self.seen + 1
            else:
                self._capital[smaller] += gain
        for smaller in (True, False):
            if self._capital[smaller] >= self._limit:
                drift = Drift(self._since[smaller], self.seen, smaller)
                self._capital = {True: 0.0, False: 0.0}
                self._since = {True: self.seen + 1, False: self.seen + 1}
                return drift
        return None
