"""Verdicts on known NG parts by a judge that did not learn from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.judging.conformal import Threshold
from mekiki.judging.judge_model import JudgeModel
from mekiki.judging.judge_result import UnseenNG
from mekiki.judging.scoring import Scoring

KnownNG = Sequence[Mapping[str, NDArray[Any]]]


def score_unseen(models: Sequence[JudgeModel], known_ng: KnownNG) -> NDArray[np.float64]:
    """Scores of known NG parts, each without its own part in the discriminant: float64 `[q, K]` by K models.

    Args:
        models: of the judge.
        known_ng: the parts as each model scores them.
    """
    columns = []
    for parts, model in zip(known_ng, models, strict=True):
        scores, rule = Scoring([model.scoring]).run(parts)["score"], model.scoring.rule
        # Near copies of corrected parts have the corrected verdict, whatever the discriminant says.
        columns.append(scores if rule is None else np.where(rule.other_unseen, rule.unseen_others, scores))
    return np.stack(columns, axis=1)


def judge_unseen(
    models: Sequence[JudgeModel], known_ng: KnownNG, threshold: Threshold, notes: Sequence[str]
) -> UnseenNG:
    """Verdicts on known NG parts, and on each NG correction by the others alone.

    Args:
        models: of the judge.
        known_ng: the known parts as each model scores them; empty where there are none.
        threshold: of the judge.
        notes: of the active corrections, in order.
    """
    rules = [model.scoring.rule for model in models if model.scoring.rule is not None]
    known, copies = np.zeros(0, np.bool_), np.zeros(0, np.bool_)
    corrections: dict[str, bool] = {}
    if known_ng:
        known = _judge(score_unseen(models, known_ng), threshold)
        copies = np.zeros(len(known), np.bool_)
    if rules:
        columns = np.stack([rule.unseen for rule in rules], axis=1)
        unseen = np.flatnonzero(~np.isnan(columns).any(axis=1))
        verdicts = _judge(columns[unseen], threshold)
        corrections = {notes[int(place)]: bool(ng) for place, ng in zip(unseen, verdicts, strict=True)}
        if known_ng:
            copies = np.any([~rule.other_unseen for rule in rules], axis=0)
    return UnseenNG(known, copies, corrections)


def _judge(columns: NDArray[np.float64], threshold: Threshold) -> NDArray[np.bool_]:
    return threshold.judge(columns if columns.shape[1] > 1 else columns[:, 0])
