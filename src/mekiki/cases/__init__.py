"""The memory of past cases: stores, search, and what people said of what was found."""

from mekiki.cases.case import Case, Cases, Encoder
from mekiki.cases.feedback import FeedbackLog, Judgement
from mekiki.cases.memory import Memory, Recalled, steered
from mekiki.cases.parquet import encoder_of, export_cases, import_cases
from mekiki.cases.store import Found, Store, open_store, stats
from mekiki.cases.triplets import Triplets, read_triplets, triplets_of
from mekiki.cases.where import Condition, matches, parse_where

__all__ = [
    "Case",
    "Cases",
    "Condition",
    "Encoder",
    "FeedbackLog",
    "Found",
    "Judgement",
    "Memory",
    "Recalled",
    "Store",
    "Triplets",
    "encoder_of",
    "export_cases",
    "import_cases",
    "matches",
    "open_store",
    "parse_where",
    "read_triplets",
    "stats",
    "steered",
    "triplets_of",
]
