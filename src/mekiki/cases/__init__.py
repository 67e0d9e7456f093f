"""Memory of past cases: stores, search, and feedback on what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mekiki.extras import lazy_names

if TYPE_CHECKING:
    from mekiki.cases.case import Case, Cases, EncoderInfo
    from mekiki.cases.feedback import FeedbackLog, Judgement
    from mekiki.cases.memory import Memory
    from mekiki.cases.parquet import encoder_of, export_cases, import_cases
    from mekiki.cases.run_memory import MemoryConfig, RunMemory
    from mekiki.cases.store import SearchResult, Store, stats
    from mekiki.cases.store_address import open_store
    from mekiki.cases.triplets import CaseTriplets, read_triplets
    from mekiki.cases.where import Condition, parse_where

_HOMES = {
    "Case": "case",
    "CaseTriplets": "triplets",
    "Cases": "case",
    "Condition": "where",
    "EncoderInfo": "case",
    "FeedbackLog": "feedback",
    "Judgement": "feedback",
    "Memory": "memory",
    "MemoryConfig": "run_memory",
    "RunMemory": "run_memory",
    "SearchResult": "store",
    "Store": "store",
    "encoder_of": "parquet",
    "export_cases": "parquet",
    "import_cases": "parquet",
    "open_store": "store_address",
    "parse_where": "where",
    "read_triplets": "triplets",
    "stats": "store",
}

__all__ = [
    "Case",
    "CaseTriplets",
    "Cases",
    "Condition",
    "EncoderInfo",
    "FeedbackLog",
    "Judgement",
    "Memory",
    "MemoryConfig",
    "RunMemory",
    "SearchResult",
    "Store",
    "encoder_of",
    "export_cases",
    "import_cases",
    "open_store",
    "parse_where",
    "read_triplets",
    "stats",
]

__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
