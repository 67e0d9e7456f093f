"""The main numbers of a run: names, units and meanings, for the terminal and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class HeadlineNumber(NamedTuple):
    """One of the main numbers.

    `key` is its name in `metrics.json`, `factor` and `unit` are those in which it is shown.
    """

    key: str
    label: str
    factor: float
    unit: str
    explanation: str = ""


HEADLINE = (
    HeadlineNumber(
        "knn5_accuracy",
        "5-NN accuracy",
        100.0,
        "%",
        "share of test images whose five nearest training images name the right class",
    ),
    HeadlineNumber(
        "pair_eer",
        "equal error rate",
        100.0,
        "%",
        "same or different? the error where as many pairs of one class are parted as of two are joined",
    ),
    HeadlineNumber(
        "pair_auc",
        "pair AUC",
        100.0,
        "%",
        "probability that a pair of one class lies closer than a pair of two; at chance it is 50 %",
    ),
    HeadlineNumber(
        "pair_accuracy",
        "pair accuracy",
        100.0,
        "%",
        "share judged rightly, half of the pairs of one class, at the threshold chosen on training pairs",
    ),
    HeadlineNumber(
        "overlap_max",
        "largest overlap",
        100.0,
        "%",
        "two members of a class lie farther apart than one of it and one of another; 50 % is one cloud",
    ),
    HeadlineNumber(
        "silhouette",
        "silhouette",
        1.0,
        "",
        "how compact the classes are against the distance to the next; from −1 to 1",
    ),
    HeadlineNumber("train_loss", "training loss", 1.0, ""),
    HeadlineNumber("val_loss", "validation loss", 1.0, ""),
    HeadlineNumber("seconds_training", "training", 1.0, "s"),
    HeadlineNumber("images_per_second", "images a second", 1.0, ""),
)


def in_metrics(metrics: Mapping[str, Any]) -> list[HeadlineNumber]:
    """Those of the main numbers that metrics have."""
    return [each for each in HEADLINE if each.key in metrics]
