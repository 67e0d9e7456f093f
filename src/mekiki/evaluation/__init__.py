"""Numbers about vectors: kNN accuracy, recall@k, same-or-different ROC and EER, overlap between classes.

Nothing here knows how the vectors were learnt: float32 `[N, d]` and labels `[N]` are enough, from whatever
encoder.
"""

from mekiki.evaluation.confused import RankedPairs, confused_pairs
from mekiki.evaluation.pairs import DistanceCurves, PairHistogram, pair_histogram
from mekiki.evaluation.summary import Evaluation, evaluate

__all__ = [
    "DistanceCurves",
    "Evaluation",
    "PairHistogram",
    "RankedPairs",
    "confused_pairs",
    "evaluate",
    "pair_histogram",
]
