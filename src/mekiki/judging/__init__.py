"""Judging of parts: Mahalanobis–Taguchi distances, and a threshold with a stated false-reject rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mekiki.extras import lazy_names

if TYPE_CHECKING:
    from mekiki.judging.conformal import (
        Cheapest,
        CrossThreshold,
        Errors,
        Language,
        Threshold,
        TradeOff,
        conformal_threshold,
        cross_conformal_threshold,
        cross_p_values,
        p_values,
        parts_needed,
        trade_off,
    )
    from mekiki.judging.defect_types import NONE, DefectTypeClassifier
    from mekiki.judging.drift import Drift, DriftAlarm
    from mekiki.judging.item_selection import (
        HeldOutCheck,
        ItemSelection,
        orthogonal_array,
        select_items,
        sn_ratio,
    )
    from mekiki.judging.judge import Judge, Lesson, Slopes, Verdicts, learn_share
    from mekiki.judging.mahalanobis_taguchi import MT, MTA, adjugate
    from mekiki.judging.taguchi import RT, T1, Ta, Tb

_HOMES = {
    "Cheapest": "conformal",
    "CrossThreshold": "conformal",
    "Drift": "drift",
    "DriftAlarm": "drift",
    "Errors": "conformal",
    "HeldOutCheck": "item_selection",
    "ItemSelection": "item_selection",
    "Judge": "judge",
    "Language": "conformal",
    "Lesson": "judge",
    "MT": "mahalanobis_taguchi",
    "MTA": "mahalanobis_taguchi",
    "NONE": "defect_types",
    "DefectTypeClassifier": "defect_types",
    "RT": "taguchi",
    "Slopes": "judge",
    "T1": "taguchi",
    "Ta": "taguchi",
    "Tb": "taguchi",
    "Threshold": "conformal",
    "TradeOff": "conformal",
    "Verdicts": "judge",
    "adjugate": "mahalanobis_taguchi",
    "conformal_threshold": "conformal",
    "cross_conformal_threshold": "conformal",
    "cross_p_values": "conformal",
    "learn_share": "judge",
    "orthogonal_array": "item_selection",
    "p_values": "conformal",
    "parts_needed": "conformal",
    "select_items": "item_selection",
    "sn_ratio": "item_selection",
    "trade_off": "conformal",
}

__all__ = [
    "MT",
    "MTA",
    "NONE",
    "RT",
    "T1",
    "Cheapest",
    "CrossThreshold",
    "DefectTypeClassifier",
    "Drift",
    "DriftAlarm",
    "Errors",
    "HeldOutCheck",
    "ItemSelection",
    "Judge",
    "Language",
    "Lesson",
    "Slopes",
    "Ta",
    "Tb",
    "Threshold",
    "TradeOff",
    "Verdicts",
    "adjugate",
    "conformal_threshold",
    "cross_conformal_threshold",
    "cross_p_values",
    "learn_share",
    "orthogonal_array",
    "p_values",
    "parts_needed",
    "select_items",
    "sn_ratio",
    "trade_off",
]

__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
