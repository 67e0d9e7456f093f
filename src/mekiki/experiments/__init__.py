"""Whole experiments: train, measure, draw and write it all down; one run, several side by side, and the demo."""

from mekiki.experiments.comparing import COLUMNS, compare
from mekiki.experiments.demonstration import demo
from mekiki.experiments.request import DataRequest
from mekiki.experiments.snapshots import Snapshots, keep_snapshot, read_snapshots
from mekiki.experiments.training import Result, take_part, train_run
from mekiki.experiments.using import distance_of, embed_images, evaluate_run, examine

__all__ = [
    "COLUMNS",
    "DataRequest",
    "Result",
    "Snapshots",
    "compare",
    "demo",
    "distance_of",
    "embed_images",
    "evaluate_run",
    "examine",
    "keep_snapshot",
    "read_snapshots",
    "take_part",
    "train_run",
]
