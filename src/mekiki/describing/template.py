"""Answers without a describer: a template filled in with the nearest past cases, which says that it is one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mekiki.describing.schema import FIELDS

SHOWN = 3
"""Cases whose notes are quoted."""


def template_text(cases: Sequence[Mapping[str, Any]], language: str) -> str:
    """The nearest past cases in words.

    Args:
        cases: as `mekiki.cases.search` gives them, the nearest first.
        language: `en` or `ja`.

    Example:
        >>> print(template_text([{"id": "3fa9c1d2", "label": "crack", "note": "new die"}], "en").partition(". ")[2])
        The nearest past case is [3fa9c1d2], crack: new die.
    """
    if language == "ja":
        notice = "定型文による回答です（まだ学習した説明器がありません）。"
        if not cases:
            return notice + "参考になる過去の事例もありません。"
        return f"{notice}最も近い過去の事例は{'、'.join(_name(case, '：') for case in cases[:SHOWN])}です。"
    notice = "Template answer: no describer has been trained for this run yet. "
    if not cases:
        return notice + "There is no past case either."
    names = [_name(case, ": ") for case in cases[:SHOWN]]
    return f"{notice}The nearest past case{' is' if len(names) == 1 else 's are'} {'; '.join(names)}."


def template_fields(cases: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The same in fields: the most frequent label as the defect, and "unknown" for the other fields.

    Example:
        >>> template_fields([{"label": "crack"}, {"label": "pit"}, {"label": "crack"}])["defect"]
        'crack'
    """
    labels = [str(case["label"]) for case in cases if case.get("label")]
    fields = dict.fromkeys(FIELDS, "unknown")
    if labels:
        fields["defect"] = Counter(labels).most_common(1)[0][0]
    return fields


def _name(case: Mapping[str, Any], colon: str) -> str:
    label, note = str(case.get("label") or "").strip(), str(case.get("note") or "").strip().rstrip(".。")
    text = label + (colon + note if label and note else note)
    return f"[{case['id']}]" + (f", {text}" if text and colon == ": " else text)
