"""Quality of embeddings and anomaly maps: kNN accuracy, recall@k, verification ROC and EER, overlap, PRO.

Everything is computed from vectors float32 `[N, d]` and labels `[N]`, from any encoder.
"""

from mekiki.evaluation.anomaly_map_quality import pixel_auroc, region_overlap
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
