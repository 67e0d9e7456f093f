"""Learning rate of an epoch, as a pure function: nothing to save, nothing to get out of step on resuming."""

from __future__ import annotations

from collections.abc import Callable

from mekiki.errors import InputError

STEP_EPOCHS = 8
STEP_FACTOR = 0.1


def step(epoch: int) -> float:
    """StepLR(8, 0.1) stepped after each epoch: epochs 0…7 at the full rate.

    Example:
        >>> [step(epoch) for epoch in (0, 7, 8)]
        [1.0, 1.0, 0.1]
    """
    return STEP_FACTOR ** (epoch // STEP_EPOCHS)


def post19(epoch: int) -> float:
    """The post's order, the scheduler stepped before each epoch: the rate drops one epoch early.

    Example:
        >>> [post19(epoch) for epoch in (0, 6, 7)]
        [1.0, 1.0, 0.1]
    """
    return step(epoch + 1)


SCHEDULES: dict[str, Callable[[int], float]] = {"step": step, "post19": post19}
"""Factor on the learning rate of an epoch (counted from 0), by the name that `--schedule` takes."""


def schedule(name: str) -> Callable[[int], float]:
    """The schedule of this name.

    Raises:
        InputError: there is none.
    """
    if name not in SCHEDULES:
        raise InputError(f"schedule {name!r} is not known; choose one of {', '.join(SCHEDULES)}")
    return SCHEDULES[name]
