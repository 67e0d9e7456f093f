"""Numbers about vectors, and about maps: kNN accuracy, recall@k, same-or-different ROC and EER, overlap, PRO.

Nothing here knows how the vectors were learnt: float32 `[N, d]` and labels `[N]` are enough, from whatever
encoder.
"""

from mekiki.evaluation.anomaly_maps import pixel_auroc, region_overlap
from mekiki.evaluation.confused_pairs import RankedPairs, confused_pairs
from mekiki.evaluation.summary import Evaluation, evaluate
from mekiki.evaluation.verification import DistanceCurves, PairHistogram, pair_histogram

__all__ = [
    "DistanceCurves",
    "Evaluation",
    "PairHistogram",
    "RankedPairs",
    "confused_pairs",
    "evaluate",
    "pair_histogram",
    "pixel_auroc",
    "region_overlap",
]
