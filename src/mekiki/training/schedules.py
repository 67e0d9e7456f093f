"""Learning rate schedules: pure functions of the position in the training, so that a resumption needs no state."""

from __future__ import annotations

from collections.abc import Callable

from mekiki.errors import not_known

STEP_EPOCHS = 8
STEP_FACTOR = 0.1
WARM_UP = 0.2


def step(position: float, epochs: int) -> float:
    """A tenth after every 8 epochs, as torch's `StepLR(8, 0.1)` stepped after each epoch.

    Example:
        >>> [step(position, 10) for position in (0, 7.99, 8)]
        [1.0, 1.0, 0.1]
    """
    return STEP_FACTOR ** (int(position) // STEP_EPOCHS)


def post19(position: float, epochs: int) -> float:
    """The order of the post, with the scheduler stepped before each epoch: the rate drops one epoch earlier.

    Example:
        >>> [post19(position, 10) for position in (0, 6.99, 7)]
        [1.0, 1.0, 0.1]
    """
    return step(position + 1, epochs)


def one_cycle(position: float, epochs: int) -> float:
    """Linearly up over the first fifth of the training, then down to zero at its end.

    Smith and Topin, *Super-Convergence* (2018, arXiv 1708.07120).

    Example:
        >>> [one_cycle(position, 10) for position in (0, 1, 2, 6, 10)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    done = position / epochs
    return done / WARM_UP if done < WARM_UP else (1 - done) / (1 - WARM_UP)


SCHEDULES: dict[str, Callable[[float, int], float]] = {"step": step, "post19": post19, "one-cycle": one_cycle}
"""Factor of the learning rate by position (epochs done, with fractions) and number of epochs; names of `--schedule`."""

NEEDS_LENGTH = ("one-cycle",)
"""Those that depend on the number of epochs, so that a training cannot be made longer afterwards."""


def schedule(name: str) -> Callable[[float, int], float]:
    """The schedule of a name.

    Raises:
        InputError: there is none.
    """
    if name not in SCHEDULES:
        raise not_known("schedule", name, SCHEDULES)
    return SCHEDULES[name]
