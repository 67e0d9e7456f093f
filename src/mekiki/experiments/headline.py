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


_NEAREST = "share of test images whose five nearest training images name the right class"
_EER = "same or different? the error where as many pairs of one class are parted as of two are joined"
_AUC = "probability that a pair of one class lies closer than a pair of two; at chance it is 50 %"
_ACCURACY = "share judged rightly, half of the pairs of one class, at the threshold chosen on training pairs"
_OVERLAP = "two members of a class lie farther apart than one of it and one of another; 50 % is one cloud"
_SILHOUETTE = "how compact the classes are against the distance to the next; from −1 to 1"
HEADLINE = (
    HeadlineNumber("knn5_accuracy", "5-NN accuracy", 100.0, "%", _NEAREST),
    HeadlineNumber("pair_eer", "equal error rate", 100.0, "%", _EER),
    HeadlineNumber("pair_auc", "pair AUC", 100.0, "%", _AUC),
    HeadlineNumber("pair_accuracy", "pair accuracy", 100.0, "%", _ACCURACY),
    HeadlineNumber("overlap_max", "largest overlap", 100.0, "%", _OVERLAP),
    HeadlineNumber("silhouette", "silhouette", 1.0, "", _SILHOUETTE),
    HeadlineNumber("train_loss", "training loss", 1.0, ""),
    HeadlineNumber("val_loss", "validation loss", 1.0, ""),
    HeadlineNumber("seconds_training", "training", 1.0, "s"),
    HeadlineNumber("images_per_second", "images a second", 1.0, ""),
)


def in_metrics(metrics: Mapping[str, Any]) -> list[HeadlineNumber]:
    """Those of the main numbers that metrics have."""
    return [each for each in HEADLINE if each.key in metrics]
