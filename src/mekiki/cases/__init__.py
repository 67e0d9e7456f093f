"""Memory of past cases: stores, search, and feedback on what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mekiki.extras import lazy_names

if TYPE_CHECKING:
    from mekiki.cases.case import Case, Cases, Encoder
    from mekiki.cases.feedback import FeedbackLog, Judgement
    from mekiki.cases.memory import Memory, SearchResult, steered
    from mekiki.cases.parquet import encoder_of, export_cases, import_cases
    from mekiki.cases.store import Found, Store, open_store, stats
    from mekiki.cases.triplets import Triplets, read_triplets, triplets_of
    from mekiki.cases.where import Condition, matches, parse_where

_HOMES = {
    "Case": "case",
    "Cases": "case",
    "Condition": "where",
    "Encoder": "case",
    "FeedbackLog": "feedback",
    "Found": "store",
    "Judgement": "feedback",
    "Memory": "memory",
    "SearchResult": "memory",
    "Store": "store",
    "Triplets": "triplets",
    "encoder_of": "parquet",
    "export_cases": "parquet",
    "import_cases": "parquet",
    "matches": "where",
    "open_store": "store",
    "parse_where": "where",
    "read_triplets": "triplets",
    "stats": "store",
    "steered": "memory",
    "triplets_of": "triplets",
}

__all__ = [
    "Case",
    "Cases",
    "Condition",
    "Encoder",
    "FeedbackLog",
    "Found",
    "Judgement",
    "Memory",
    "SearchResult",
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

__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
