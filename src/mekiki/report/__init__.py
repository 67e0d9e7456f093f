"""Reports as one HTML file that works offline: of one run (`write_report`) or several side by side."""

from __future__ import annotations

from mekiki.report.comparison_page import write_comparison
from mekiki.report.run_page import write_report

__all__ = ["write_comparison", "write_report"]
