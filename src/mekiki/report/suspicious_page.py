"""The page of OK photographs that look least like the others, the worst first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mekiki.report.judge_page import photo_images
from mekiki.report.render import write_page


@dataclass(frozen=True, eq=False)
class SuspiciousCard:
    """One photograph on the page.

    Attributes:
        name: of the file.
        rank: 1 is the worst.
        score: larger = farther from good.
        p: p-value among OK parts.
        use: what the photograph was used for.
        pixels: uint8 `[H, W]` or `[H, W, 3]`.
        anomaly_map: `[h, w]`, larger = farther from good; `None` draws nothing over the photograph.
    """

    name: str
    rank: int
    score: float
    p: float
    use: str
    pixels: NDArray[np.uint8] | None
    anomaly_map: NDArray[np.floating] | None = None


def write_suspicious_page(path: Path, cards: Sequence[SuspiciousCard], total: int) -> None:
    """Write the page as one HTML file without script that needs no other file and no network.

    Args:
        path: the file.
        cards: in the order in which they are shown.
        total: number of OK photographs.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "suspicious.html"
        >>> card = SuspiciousCard("a<b>.png", 1, 9.5, 0.01, "left out of learning", np.zeros((8, 8), np.uint8))
        >>> write_suspicious_page(target, [card], 60)
        >>> "a&lt;b&gt;.png" in target.read_text(encoding="utf-8")
        True
    """
    write_page(
        path,
        "suspicious.html",
        content={"title": "OK photographs that look least like the others"},
        cards=[{"card": card} | photo_images(card.pixels, card.anomaly_map) for card in cards],
        total=total,
    )
