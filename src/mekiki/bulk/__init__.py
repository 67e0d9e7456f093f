"""Very many images, by many machines: parts that are each done once, whoever does them and however often it stops."""

from mekiki.bulk.engine import embed_in_bulk, judge_in_bulk
from mekiki.bulk.plan import PART

__all__ = ["PART", "embed_in_bulk", "judge_in_bulk"]
