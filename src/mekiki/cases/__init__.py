"""Memory of past cases: stores, search, and feedback on what was found."""
# ruff: noqa: F401

from __future__ import annotations

from typing import TYPE_CHECKING

from mekiki.extras import lazy_names

if TYPE_CHECKING:
    from mekiki.cases.case import Case, Cases, EncoderInfo
    from mekiki.cases.case_triplets import CaseTriplets, read_triplets
    from mekiki.cases.feedback import FeedbackLog, Judgement
    from mekiki.cases.memory import Memory
    from mekiki.cases.parquet import encoder_of, export_cases, import_cases
    from mekiki.cases.run_memory import MemoryConfig, RunMemory
    from mekiki.cases.store import SearchResult, Store, stats
    from mekiki.cases.store_address import open_store
    from mekiki.cases.where import Condition, parse_where

_HOMES = {
    name: module
    for module, names in {
        "case": "Case Cases EncoderInfo",
        "feedback": "FeedbackLog Judgement",
        "memory": "Memory",
        "parquet": "encoder_of export_cases import_cases",
        "run_memory": "MemoryConfig RunMemory",
        "store": "SearchResult Store stats",
        "store_address": "open_store",
        "case_triplets": "CaseTriplets read_triplets",
        "where": "Condition parse_where",
    }.items()
    for name in names.split()
}

__all__ = list(_HOMES)

__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
