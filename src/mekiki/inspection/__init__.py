"""Inspecting parts: an eye and a calibrated judge in a run folder, its lessons, and its life on the line."""

from mekiki.inspection.eyes import BackboneEye, EmbedderEye, Sight
from mekiki.inspection.inspector import Calibration, Inspector, Verdict, calibrate_run
from mekiki.inspection.lessons import Entry, LessonBook, parse_label

__all__ = [
    "BackboneEye",
    "Calibration",
    "EmbedderEye",
    "Entry",
    "Inspector",
    "LessonBook",
    "Sight",
    "Verdict",
    "calibrate_run",
    "parse_label",
]
