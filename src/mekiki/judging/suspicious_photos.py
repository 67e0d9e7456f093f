"""The OK photographs of a calibration that look least like the others, worst first: as numbers and as a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.data.photo import Photo
from mekiki.judging.anomaly_map import detector_maps
from mekiki.judging.feature_judge import Judge
from mekiki.judging.suspicious_parts import score_suspicion
from mekiki.report.suspicious_page import SuspiciousCard, write_suspicious_page

LISTED_SHARE = 0.2
"""Share of the OK photographs that are listed."""
MOST_LISTED = 300
"""Photographs that are listed, at most."""
MOST_SHOWN = 100
"""Photographs on the page, at most."""
LEFT_OUT, TAUGHT = "left out of learning", "learnt from"
SET_THRESHOLD, BOTH = "set the threshold", "learnt from, and set the threshold"
"""What a photograph was used for."""


@dataclass(frozen=True, eq=False)
class SuspiciousPhoto:
    """One of the OK photographs that look least like the others.

    Attributes:
        photo: the photograph.
        rank: 1 is the worst.
        score: by models that did not learn from it, larger = less like the others; see `score_suspicion`.
        p: share of the calibration photographs whose score by the judge is at least as high, itself counted.
        use: one of the words above.
        anomaly_map: `[h, w]`; `None` without a map, or where the model of the map learnt from the photograph.
    """

    photo: Photo
    rank: int
    score: float
    p: float
    use: str
    anomaly_map: NDArray[np.float32] | None = None

    def to_dict(self) -> dict[str, Any]:
        """File, rank, score, p and use, for JSON."""
        return {
            "file": str(self.photo.path),
            "rank": self.rank,
            "score": self.score,
            "p": self.p,
            "use": self.use,
        }


def list_suspicious(
    judge: Judge, photos: Sequence[Photo], groups: Mapping[str, NDArray[Any]]
) -> list[SuspiciousPhoto]:
    """The worst `LISTED_SHARE` of the OK photographs, worst first.

    Args:
        judge: calibrated.
        photos: those it was fitted to, then those it was calibrated with; after `cross_calibrate` all that it got.
        groups: their feature groups.
    """
    calibration = judge.calibration_scores
    scores = np.concatenate([judge.learning_scores, calibration])
    learning = len(judge.learning_scores)
    left_out = np.zeros(len(scores), np.bool_)
    left_out[: len(judge.left_out)] = judge.left_out
    at_least = (calibration[None] >= scores[:, None]).sum(1)
    calibrates = np.arange(len(scores)) >= learning
    p = (at_least + ~calibrates) / (len(calibration) + ~calibrates)
    count = min(MOST_LISTED, math.ceil(LISTED_SHARE * len(scores)))
    vectors = {name: group for name, group in groups.items() if group.ndim == 2}
    suspicion = score_suspicion(vectors, scores)
    worst = np.argsort(-suspicion, kind="stable")[:count]
    unseen = worst[:MOST_SHOWN]
    unseen = unseen[left_out[unseen] | (calibrates[unseen] if learning else False)]
    maps = _anomaly_maps(judge, {name: group[unseen] for name, group in groups.items()})
    of_part = dict(zip(unseen.tolist(), maps, strict=True))
    return [
        SuspiciousPhoto(
            photos[part],
            rank,
            float(suspicion[part]),
            float(p[part]),
            _use(bool(left_out[part]), bool(calibrates[part]), learning > 0),
            of_part.get(part),
        )
        for rank, part in enumerate(worst.tolist(), 1)
    ]


def describe_left_out(left_out: Sequence[str], number: int, page: Path) -> str:
    """A note on the photographs left out of learning, of `number` to learn from, with the names of the first."""
    shown = ", ".join(Path(name).name for name in left_out[:10]) + (", …" if len(left_out) > 10 else "")
    return (
        f"{len(left_out)} of {number} OK photographs to learn from look suspicious and are left out: {shown}; "
        f"see {page}"
    )


def write_list(path: Path, listed: Sequence[SuspiciousPhoto], total: int) -> None:
    """Write the page of these photographs, of `total`; see `write_suspicious_page`."""
    cards = [
        SuspiciousCard(
            str(each.photo.path),
            each.rank,
            each.score,
            each.p,
            each.use,
            each.photo.pixels,
            each.anomaly_map,
        )
        for each in listed[:MOST_SHOWN]
    ]
    write_suspicious_page(path, cards, total)


def _use(left_out: bool, calibrates: bool, split: bool) -> str:
    if calibrates:
        return SET_THRESHOLD if split or left_out else BOTH
    return LEFT_OUT if left_out else TAUGHT


def _anomaly_maps(judge: Judge, groups: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32] | None]:
    number = len(next(iter(groups.values())))
    maps = detector_maps(judge, groups) if number else None
    return [None] * number if maps is None else list(maps)
