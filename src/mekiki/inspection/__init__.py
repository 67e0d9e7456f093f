"""Inspecting parts: an eye and a calibrated judge in a run folder, its lessons, and its life on the line."""

from mekiki.inspection.calibrating import Costs, Terms, calibrate_run
from mekiki.inspection.eyes import BackboneEye, EmbedderEye, FilterEye, Sight
from mekiki.inspection.inspector import Calibration, Inspector, Verdict
from mekiki.inspection.lessons import Entry, LessonBook, lessons_of, parse_label
from mekiki.inspection.results import judge_paths
from mekiki.inspection.teaching import retrain, teach, teach_judge, undo
from mekiki.inspection.watching import watch

__all__ = [
    "BackboneEye",
    "Calibration",
    "Costs",
    "EmbedderEye",
    "Entry",
    "FilterEye",
    "Inspector",
    "LessonBook",
    "Sight",
    "Terms",
    "Verdict",
    "calibrate_run",
    "judge_paths",
    "lessons_of",
    "parse_label",
    "retrain",
    "teach",
    "teach_judge",
    "undo",
    "watch",
]
