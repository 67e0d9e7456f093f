"""Numbers about vectors, and about maps: kNN accuracy, recall@k, same-or-different ROC and EER, overlap, PRO.

Nothing here knows how the vectors were learnt: float32 `[N, d]` and labels `[N]` are enough, from whatever
encoder.
"""

from mekiki.evaluation.confused import RankedPairs, confused_pairs
from mekiki.evaluation.pairs import DistanceCurves, PairHistogram, pair_histogram
from mekiki.evaluation.places import pixel_auroc, region_overlap
from mekiki.evaluation.summary import Evaluation, evaluate

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
