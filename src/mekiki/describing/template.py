"""What is said where no describer has learnt: the nearest past cases, and that it is no more than that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mekiki.describing.answer import FIELDS

SHOWN = 3
"""Cases whose notes are told."""


def template_text(cases: Sequence[Mapping[str, Any]], language: str) -> str:
    """The nearest past cases in words; says that it is a template.

    Args:
        cases: rows as `mekiki.cases.search` finds them, the nearest first.
        language: `en` or `ja`.

    Example:
        >>> print(template_text([{"id": "3fa9c1d2", "label": "crack", "note": "new die"}], "en").partition(". ")[2])
        The nearest past case is [3fa9c1d2], crack: new die.
    """
    if language == "ja":
        said = "定型文による回答です（まだ学習した説明器がありません）。"
        if not cases:
            return said + "参考になる過去の事例もありません。"
        told = "、".join(_named(case, "：") for case in cases[:SHOWN])
        return f"{said}最も近い過去の事例は{told}です。"
    said = "Template answer: no describer has learnt from this run yet. "
    if not cases:
        return said + "Nor is there a past case to go by."
    told = "; ".join(_named(case, ": ") for case in cases[:SHOWN])
    return f"{said}The nearest past case{' is' if len(cases[:SHOWN]) == 1 else 's are'} {told}."


def template_fields(cases: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The same in fields: the label of most of the nearest cases; what a case does not hold is "unknown".

    Example:
        >>> template_fields([{"label": "crack"}, {"label": "pit"}, {"label": "crack"}])["defect"]
        'crack'
    """
    labels = [str(case["label"]) for case in cases if case.get("label")]
    fields = dict.fromkeys(FIELDS, "unknown")
    if labels:
        fields["defect"] = Counter(labels).most_common(1)[0][0]
    return fields


def _named(case: Mapping[str, Any], colon: str) -> str:
    label, note = str(case.get("label") or "").strip(), str(case.get("note") or "").strip().rstrip(".。")
    said = label + (colon + note if label and note else note)
    return f"[{case['id']}]" + (f", {said}" if said and colon == ": " else said)
