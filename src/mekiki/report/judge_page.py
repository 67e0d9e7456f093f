"""The page of judged photographs: the worst first, each with its anomaly map and its nearest examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.report.render import write_page
from mekiki.report.thumbnails import data_url, shrink

SIDE = 224
"""Pixels on the longer side of a photograph on the page."""
_RED = (209, 32, 32)


@dataclass(frozen=True, eq=False)
class Card:
    """One photograph on the page.

    Attributes:
        name: of the file.
        verdict: `"OK"` or `"NG"`.
        score: larger = farther from good.
        p: p-value among OK parts.
        why: what decided.
        defect_type: or empty.
        pixels: uint8 `[H, W]` or `[H, W, 3]`.
        anomaly_map: `[h, w]`, larger = farther from good; `None` draws nothing over the photograph.
        like_ok: pixels of the nearest OK example, or `None`.
        like_ng: pixels of the nearest NG example, or `None`.
        ok_name: name of the former.
        ng_name: name of the latter.
    """

    name: str
    verdict: str
    score: float
    p: float
    why: str
    defect_type: str
    pixels: NDArray[np.uint8] | None
    anomaly_map: NDArray[np.floating] | None = None
    like_ok: NDArray[np.uint8] | None = None
    like_ng: NDArray[np.uint8] | None = None
    ok_name: str = ""
    ng_name: str = ""


@dataclass(frozen=True, eq=False)
class Gallery:
    """What the page shows.

    Attributes:
        title: heading.
        subtitle: what was judged, in a sentence.
        guarantee: the false-reject rate that the threshold keeps.
        cards: in the order in which they are shown.
        unreadable: names of files that could not be read, and why.
    """

    title: str
    subtitle: str
    guarantee: str
    cards: Sequence[Card]
    unreadable: Sequence[tuple[str, str]] = ()


def write_gallery(path: Path, content: Gallery) -> None:
    """Write the page as one HTML file without script that needs no other file and no network.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "gallery.html"
        >>> card = Card("a<b>.png", "NG", 9.5, 0.01, "layer 16", "scratch", np.zeros((8, 8), np.uint8))
        >>> write_gallery(target, Gallery("Judged", "1 of 1 is NG.", "At most 1 %.", [card]))
        >>> "a&lt;b&gt;.png" in target.read_text(encoding="utf-8")
        True
    """
    write_page(path, "judged.html", content=content, cards=[_images(card) for card in content.cards])


def _images(card: Card) -> dict[str, Any]:
    """A card with its images as data URLs."""
    examples = [
        (label, name, data_url(pixels))
        for label, name, pixels in (
            ("nearest OK", card.ok_name, card.like_ok),
            ("nearest NG", card.ng_name, card.like_ng),
        )
        if pixels is not None
    ]
    return {"card": card, "examples": examples} | photo_images(card.pixels, card.anomaly_map)


def photo_images(
    pixels: NDArray[np.uint8] | None, anomaly_map: NDArray[np.floating] | None
) -> dict[str, Any]:
    """The `photo` of a card and the `overlay` of its anomaly map as data URLs, `None` where there is none; its `ratio`.

    The ratio is that of width to height. A map of a single place says nothing of where, and has no overlay.
    """
    if pixels is None:
        return {"photo": None, "overlay": None, "ratio": 1}
    small, overlay = shrink(pixels, SIDE), None
    if anomaly_map is not None and anomaly_map.size > 1:
        overlay = data_url(red_overlay(anomaly_map, *small.shape[:2]))
    return {"photo": data_url(small), "overlay": overlay, "ratio": round(small.shape[1] / small.shape[0], 4)}


def red_overlay(anomaly_map: NDArray[np.floating], height: int, width: int) -> NDArray[np.uint8]:
    """An anomaly map `[h, w]` as red of rising opacity: RGBA uint8 `[height, width, 4]`.

    The scale is the photograph's own: clear at the median of the map, deepest at its maximum.
    """
    from PIL import Image

    low, high = float(np.median(anomaly_map)), float(anomaly_map.max())
    share = np.clip((anomaly_map - low) / max(high - low, 1e-12), 0, 1).astype(np.float32)
    smooth = np.asarray(Image.fromarray(share).resize((width, height), Image.Resampling.BICUBIC))
    overlay = np.empty((height, width, 4), np.uint8)
    overlay[..., :3] = _RED
    overlay[..., 3] = np.rint(190 * np.clip(smooth, 0, 1) ** 1.5)
    return overlay
