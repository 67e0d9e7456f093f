"""Judging parts by their vectors: how far from the good ones, with a threshold that holds what it promises."""

from mekiki.judging.calibration import (
    Cheapest,
    CrossThreshold,
    Errors,
    Language,
    Threshold,
    TradeOff,
    calibrate,
    calibrate_across,
    combine,
    combine_scores,
    cross_p_values,
    p_values,
    parts_needed,
    trade_off,
)
from mekiki.judging.classes import NONE, NearestClass
from mekiki.judging.drift import Drift, DriftAlarm
from mekiki.judging.items import HeldOutCheck, ItemSelection, orthogonal_array, select_items, sn_ratio
from mekiki.judging.judge import Judge, Lesson, Slopes, Verdicts, learn_share
from mekiki.judging.taguchi import RT, T1, Ta, Tb
from mekiki.judging.unit_space import MT, MTA, adjugate

__all__ = [
    "MT",
    "MTA",
    "NONE",
    "RT",
    "T1",
    "Cheapest",
    "CrossThreshold",
    "Drift",
    "DriftAlarm",
    "Errors",
    "HeldOutCheck",
    "ItemSelection",
    "Judge",
    "Language",
    "Lesson",
    "NearestClass",
    "Slopes",
    "Ta",
    "Tb",
    "Threshold",
    "TradeOff",
    "Verdicts",
    "adjugate",
    "calibrate",
    "calibrate_across",
    "combine",
    "combine_scores",
    "cross_p_values",
    "learn_share",
    "orthogonal_array",
    "p_values",
    "parts_needed",
    "select_items",
    "sn_ratio",
    "trade_off",
]
