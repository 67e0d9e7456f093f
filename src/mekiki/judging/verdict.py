"""`Verdict`: what a judge decides on one photograph, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mekiki.data.photo import Photo
from mekiki.storage.json_files import finite

Because = Literal["view", "lesson", "taught"]


@dataclass(frozen=True, eq=False)
class Verdict:
    """The decision on one photograph.

    Attributes:
        photo: the photograph, with its pixels as the judge took them, and the remark on it.
        verdict: `"OK"`, `"NG"` or `"unreadable"`.
        score: distance from good, never clamped; NaN if unreadable.
        p: p-value as an OK part; NG means at most the stated rate.
        threshold: of the score; NaN where a p-value across models decides.
        why: the feature group with the smallest p-value, or the correction that decided.
        defect_type: the type it resembles, or "none of these", for NG parts where NG examples were given or taught.
        like_ok: the OK example it resembles most.
        like_ng: the NG example it resembles most; empty where there is none.
        anomaly_map: float32 `[h, w]`, what each place contributes to the score; `None` if not asked for, or not NG.
        features: float32 `[d]` by feature group.
        because: what `why` names: a feature group ("view"), a correction on a similar part ("lesson"), or one on this
            very photograph ("taught").
    """

    photo: Photo
    verdict: str
    score: float = float("nan")
    p: float = float("nan")
    threshold: float = float("nan")
    why: str = ""
    defect_type: str = ""
    like_ok: str = ""
    like_ng: str = ""
    anomaly_map: NDArray[np.float32] | None = None
    features: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    because: Because = "view"

    def row(self) -> dict[str, Any]:
        """The verdict as a row of a table."""
        return {
            "file": escape_name(self.photo.path),
            "verdict": self.verdict,
            "score": self.score,
            "p": self.p,
            "threshold": self.threshold,
            "why": self.why,
            "kind": self.defect_type,
            "like_ok": escape_name(self.like_ok),
            "like_ng": escape_name(self.like_ng),
            "problem": escape_name(self.photo.problem),
            "note": self.photo.remark,
        }

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON, with `None` for a number that is not finite."""
        row: dict[str, Any] = finite(self.row())
        return row


def escape_name(name: Path | str) -> str:
    r"""A file name as any file can hold it: bytes in it that are no text become escapes.

    Example:
        >>> escape_name("bad\udcff.png")
        'bad\\udcff.png'
    """
    return str(name).encode("utf-8", "backslashreplace").decode("utf-8")
