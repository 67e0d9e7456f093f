"""Reports: one HTML file that works offline, for one run (`write_report`) or several side by side."""

from __future__ import annotations

from mekiki.report.content import (
    COLUMNS,
    Column,
    ComparisonContent,
    ComparisonEntry,
    ConfusedPairs,
    Finding,
    Headline,
    PairDistances,
    ReportContent,
    ScatterContent,
)
from mekiki.report.run_page import write_comparison, write_report

__all__ = [
    "COLUMNS",
    "Column",
    "ComparisonContent",
    "ComparisonEntry",
    "ConfusedPairs",
    "Finding",
    "Headline",
    "PairDistances",
    "ReportContent",
    "ScatterContent",
    "write_comparison",
    "write_report",
]
