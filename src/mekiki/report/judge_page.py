"""A page of judged photographs, the worst first, with where they depart and what they are like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mekiki.report.thumbnails import address, fitted
from mekiki.report.wording import escaped
from mekiki.storage.atomic import write_text

SIDE = 224
"""Pixels on the longer side of a photograph on the page."""
_HOT = (209, 32, 32)

STYLE = """
:root{color-scheme:light dark;--bg:#fafaf8;--fg:#1d1d1b;--faint:#5d5d58;--card:#fff;--line:#ddd;--ng:#b3261e;
  --ok:#1b6e3c}
@media (prefers-color-scheme:dark){:root{--bg:#161615;--fg:#eee;--faint:#a9a9a2;--card:#20201f;--line:#3a3a38;
  --ng:#ff8a80;--ok:#7fd6a0}}
body{margin:0;background:var(--bg);color:var(--fg);
  font:16px/1.5 system-ui,"Hiragino Sans","Noto Sans JP",sans-serif}
header,main{max-width:1200px;margin:0 auto;padding:1rem}
h1{margin:.2rem 0;font-size:1.6rem}
.faint{color:var(--faint)}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(250px,1fr));gap:1rem;list-style:none;
  padding:0;align-items:start}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.7rem;overflow:hidden}
.shot{position:relative;display:block}
.shot img{display:block;width:100%;height:auto;border-radius:4px}
.shot img.heat{position:absolute;inset:0;height:100%;transition:opacity .15s}
.shot:hover .heat,.shot:focus .heat{opacity:0}
.ng{color:var(--ng)}
.ok{color:var(--ok)}
.verdict{font-weight:700}
.name{overflow-wrap:anywhere;font-size:.85rem;margin:.3rem 0}
.like{display:flex;gap:.6rem;margin:.4rem 0 0}
.like figure{margin:0;width:80px}
.like img{width:80px;height:auto;border-radius:4px}
figcaption{font-size:.75rem;color:var(--faint);overflow-wrap:anywhere}
dl{margin:.3rem 0;display:grid;grid-template-columns:auto 1fr;gap:0 .6rem;font-size:.9rem}
dt{color:var(--faint)}
dd{margin:0;overflow-wrap:anywhere}
"""


@dataclass(frozen=True, eq=False)
class Card:
    """One photograph on the page.

    Attributes:
        name: of the file.
        verdict: `"OK"` or `"NG"`.
        score: larger = farther from good.
        p: how ordinary it would be as an OK part.
        why: what decided.
        kind: of defect, or empty.
        pixels: uint8 `[H, W]` or `[H, W, 3]`.
        places: `[h, w]`, where it departs; `None` draws nothing over it.
        like_ok: the OK example it resembles most, or `None`.
        like_ng: the NG example it resembles most, or `None`.
        ok_name: name of the former.
        ng_name: name of the latter.
    """

    name: str
    verdict: str
    score: float
    p: float
    why: str
    kind: str
    pixels: NDArray[np.uint8] | None
    places: NDArray[np.floating] | None = None
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
        guarantee: what the threshold promises.
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
    shown = "".join(_card(card) for card in content.cards)
    bad = "".join(
        f"<dt>{escaped(Path(name).name)}</dt><dd>{escaped(problem)}</dd>"
        for name, problem in content.unreadable
    )
    unread = f"<section><h2>Not readable</h2><dl>{bad}</dl></section>" if bad else ""
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    hint = (
        '<p class="faint">Red is where a photograph departs from good ones; point at it to see it bare.</p>'
        if any(card.places is not None for card in content.cards)
        else ""
    )
    write_text(
        path,
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><link rel="icon" href="data:,">'
        f"<title>{escaped(content.title)}</title><style>{STYLE}</style></head><body><header>"
        f'<p class="faint"><span lang="ja">目利き</span> mekiki</p><h1>{escaped(content.title)}</h1>'
        f'<p>{escaped(content.subtitle)}</p><p class="faint">{escaped(content.guarantee)}</p>{hint}</header>'
        f'<main><ul class="cards">{shown}</ul>{unread}</main></body></html>\n',
    )


def overlay(places: NDArray[np.floating], height: int, width: int) -> NDArray[np.uint8]:
    """Red, the more opaque the farther a place departs: `[h, w]` → RGBA uint8 `[height, width, 4]`.

    The scale is of this photograph alone: from its median, which is clear, to its largest.
    """
    from PIL import Image

    low, high = float(np.median(places)), float(places.max())
    share = np.clip((places - low) / max(high - low, 1e-12), 0, 1).astype(np.float32)
    smooth = np.asarray(Image.fromarray(share).resize((width, height), Image.Resampling.BICUBIC))
    drawn = np.empty((height, width, 4), np.uint8)
    drawn[..., :3] = _HOT
    drawn[..., 3] = np.rint(190 * np.clip(smooth, 0, 1) ** 1.5)
    return drawn


def _card(card: Card) -> str:
    kind = card.verdict.lower()
    shot = ""
    if card.pixels is not None:
        shown = fitted(card.pixels, SIDE)
        photograph = f'<img src="{address(shown)}" alt="{escaped(card.name)}">'
        heat = ""
        if card.places is not None and card.places.size > 1:
            heat = f'<img class="heat" src="{address(overlay(card.places, *shown.shape[:2]))}" alt="where it departs">'
        shot = f'<span class="shot" tabindex="0">{photograph}{heat}</span>'
    figures = "".join(
        f'<figure><img src="{address(pixels)}" alt="">'
        f"<figcaption>{said}: {escaped(Path(name).name)}</figcaption></figure>"
        for pixels, said, name in (
            (card.like_ok, "nearest OK", card.ok_name),
            (card.like_ng, "nearest NG", card.ng_name),
        )
        if pixels is not None
    )
    facts = f"<dt>score</dt><dd>{_number(card.score)}</dd><dt>p</dt><dd>{_number(card.p)}</dd>"
    facts += f"<dt>seen by</dt><dd>{escaped(card.why)}</dd>" if card.why else ""
    facts += f"<dt>kind</dt><dd>{escaped(card.kind)}</dd>" if card.kind else ""
    return (
        f'<li class="card">{shot}<p class="name" title="{escaped(card.name)}"><span class="verdict {kind}">'
        f"{card.verdict}</span> {escaped(Path(card.name).name)}</p><dl>{facts}</dl>"
        f"{f'<div class=like>{figures}</div>' if figures else ''}</li>"
    )


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3g}"
