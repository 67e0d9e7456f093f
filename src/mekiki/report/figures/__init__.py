"""Pictures of an embedding: scatter, loss curve, distance histograms, overlap, confused pairs, comparison.

Every function takes plain arrays and gives a matplotlib `Figure` of its own, without pyplot and without touching
global settings; `save` writes one as PNG.
"""

from __future__ import annotations

from mekiki.report.figures.charts import comparison, confused_pairs, overlap_matrix, save
from mekiki.report.figures.distance_histogram import pair_distances
from mekiki.report.figures.judge_figures import factor_effects, score_histogram, trade_off_curve
from mekiki.report.figures.palette import COLOURS, class_style
from mekiki.report.figures.projection import Frame, Projection, check_method, frame, project
from mekiki.report.figures.scatter_plot import scatter
from mekiki.report.figures.training_curves import loss_curve

__all__ = [
    "COLOURS",
    "Frame",
    "Projection",
    "check_method",
    "class_style",
    "comparison",
    "confused_pairs",
    "factor_effects",
    "frame",
    "loss_curve",
    "overlap_matrix",
    "pair_distances",
    "project",
    "save",
    "scatter",
    "score_histogram",
    "trade_off_curve",
]
