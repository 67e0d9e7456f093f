"""Judging of parts: Mahalanobis–Taguchi distances, and a threshold with a stated false-reject rate."""
# ruff: noqa: F401

from __future__ import annotations

from typing import TYPE_CHECKING

from mekiki.extras import lazy_names

if TYPE_CHECKING:
    from mekiki.judging.conformal import (
        CrossThreshold,
        SplitThreshold,
        Threshold,
        conformal_threshold,
        cross_conformal_threshold,
        p_values,
    )
    from mekiki.judging.defect_types import NONE, DefectTypeClassifier
    from mekiki.judging.drift import Drift, DriftAlarm
    from mekiki.judging.feature_judge import Judge
    from mekiki.judging.item_selection import (
        HeldOutCheck,
        ItemSelection,
        orthogonal_array,
        select_items,
        sn_ratio,
    )
    from mekiki.judging.judge_result import JudgeResult, TaughtPart
    from mekiki.judging.mahalanobis_taguchi import MT, MTA
    from mekiki.judging.t_methods import RT, T1, Ta, Tb
    from mekiki.judging.trade_off import CheapestThreshold, ErrorRates, TradeOff

_HOMES = {
    name: module
    for module, names in {
        "conformal": "CrossThreshold SplitThreshold Threshold conformal_threshold cross_conformal_threshold p_values",
        "defect_types": "NONE DefectTypeClassifier",
        "drift": "Drift DriftAlarm",
        "item_selection": "HeldOutCheck ItemSelection orthogonal_array select_items sn_ratio",
        "feature_judge": "Judge",
        "judge_result": "JudgeResult TaughtPart",
        "mahalanobis_taguchi": "MT MTA",
        "t_methods": "RT T1 Ta Tb",
        "trade_off": "CheapestThreshold ErrorRates TradeOff",
    }.items()
    for name in names.split()
}

__all__ = list(_HOMES)

__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
