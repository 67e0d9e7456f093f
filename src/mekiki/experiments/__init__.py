"""Whole experiments: train, measure, draw and write it all down; one run, several side by side, and the demo."""

from mekiki.experiments.comparing import COLUMNS, compare
from mekiki.experiments.demonstration import demo
from mekiki.experiments.request import DataRequest
from mekiki.experiments.training import Result, take_part, train_run
from mekiki.experiments.using import distance_of, embed_images, evaluate_run, examine

__all__ = [
    "COLUMNS",
    "DataRequest",
    "Result",
    "compare",
    "demo",
    "distance_of",
    "embed_images",
    "evaluate_run",
    "examine",
    "take_part",
    "train_run",
]
