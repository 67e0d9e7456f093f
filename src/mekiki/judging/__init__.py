"""Judging parts by their vectors: how far from the good ones, with a threshold that holds what it promises."""

from mekiki.judging.items import HeldOutCheck, ItemSelection, orthogonal_array, select_items, sn_ratio
from mekiki.judging.taguchi import RT, T1, Ta, Tb
from mekiki.judging.unit_space import MT, MTA, adjugate

__all__ = [
    "MT",
    "MTA",
    "RT",
    "T1",
    "HeldOutCheck",
    "ItemSelection",
    "Ta",
    "Tb",
    "adjugate",
    "orthogonal_array",
    "select_items",
    "sn_ratio",
]
