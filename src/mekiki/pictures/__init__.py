"""Pictures of an embedding: scatter, loss curve, distance histograms, overlap, confused pairs, comparison.

Every function takes plain arrays and gives a matplotlib `Figure` of its own, without pyplot and without touching
global settings; `save` writes one as PNG.
"""

from __future__ import annotations

from mekiki.pictures.charts import comparison, confused_pairs, overlap_matrix, save
from mekiki.pictures.distances import pair_distances
from mekiki.pictures.history import loss_curve
from mekiki.pictures.judged import factor_effects, score_histogram, trade_off_curve
from mekiki.pictures.palette import COLOURS, class_style
from mekiki.pictures.points import scatter
from mekiki.pictures.projection import Frame, Projection, check_method, frame, project

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
