"""How many OK parts a judge is fitted to, and how many calibrate it."""

from __future__ import annotations

from mekiki.errors import InputError
from mekiki.judging.conformal import check_parts

LEAST_TO_LEARN = 8
"""OK parts below which no judge is fitted: fewer say nothing of how good parts vary."""
LEAST_TO_SPLIT = 150
"""OK parts below which all teach and calibrate (CV+): a third kept out costs more than what the promise then lacks."""
_LEARN_SHARE = 2 / 3


def learning_parts(
    number: int, false_reject: float, confidence: float | None = None, *, least: int = LEAST_TO_SPLIT
) -> int:
    """The number of OK parts, of `number`, to fit to; the others calibrate.

    Two thirds, or fewer if the rate needs more calibration parts than the last third has. 0 means that the parts
    are too few for both, and are to be used by `Judge.cross_calibrate`.

    Args:
        number: of OK parts.
        false_reject: the rate asked for.
        confidence: with which it is to hold, which no cross-calibration promises: parts are then split where they can.
        least: parts below which none is set aside without a confidence.

    Raises:
        InputError: not even all of them would suffice for the rate.

    Example:
        >>> learning_parts(476, 0.01), learning_parts(150, 0.01), learning_parts(100, 0.05)
        (317, 51, 0)
        >>> learning_parts(100, 0.05, confidence=0.9)
        55
    """
    needed = check_parts(number, false_reject, confidence, least=LEAST_TO_LEARN)
    if confidence is None and number < least:
        return 0
    learning = min(int(number * _LEARN_SHARE), number - needed)
    return learning if learning >= max(LEAST_TO_LEARN, needed // 4) else 0


def refuse_too_few(number: int) -> None:
    """Raise an `InputError` if so few OK parts say nothing of how good parts vary.

    Example:
        >>> refuse_too_few(8)
        >>> refuse_too_few(7)
        Traceback (most recent call last):
        mekiki.errors.InputError: 7 OK parts are too few to learn what good parts look like; give at least 8
    """
    if number < LEAST_TO_LEARN:
        raise InputError(
            f"{number} OK parts are too few to learn what good parts look like; give at least {LEAST_TO_LEARN}"
        )
