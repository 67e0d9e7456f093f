"""The sections of a side-by-side report as HTML."""

from __future__ import annotations

from collections.abc import Sequence

from mekiki.report.content import ComparisonContent, ComparisonEntry
from mekiki.report.html import (
    HOVER_HINT,
    NOTHING,
    OVERLAP_CAPTION,
    Part,
    loss_figure,
    overlap_figure,
    scatter_figure,
    section,
)
from mekiki.report.payload import Payload, scaled
from mekiki.report.wording import escaped, mean_and_spread


def claim(paragraphs: Sequence[str]) -> Part:
    """What the comparison shows and what it does not."""
    if not paragraphs:
        return NOTHING
    body = "".join(f"<p>{escaped(paragraph)}</p>" for paragraph in paragraphs)
    return section("claim", "What this comparison shows", f'<div class="claim">{body}</div>', "Claim")


def table(content: ComparisonContent) -> Part:
    """Mean and standard deviation of every number, the best of each column marked."""
    columns = [
        c for c in content.columns if any(_mean(entry, c.key, 1.0) is not None for entry in content.entries)
    ]
    if not columns:
        return NOTHING
    head = "".join(
        f'<th scope="col" class="number">{escaped(c.label)}'
        + (
            f'<br><span class="faint">{"higher" if c.better == "high" else "lower"} is better</span>'
            if c.better
            else ""
        )
        + "</th>"
        for c in columns
    )
    rows = ""
    best = {
        c.key: _best([_mean(entry, c.key, c.factor) for entry in content.entries], c.better) for c in columns
    }
    for place, entry in enumerate(content.entries):
        rows += f'<tr><th scope="row">{escaped(entry.name)}</th>'
        for c in columns:
            spread = scaled(entry.metrics.get(c.key, (None, None))[1], c.factor)
            text = mean_and_spread(_mean(entry, c.key, c.factor), spread)
            if place in best[c.key]:
                star = '<span class="star" aria-hidden="true">★</span><span class="unseen">best: </span>'
                rows += f'<td class="number best">{star}{text}</td>'
            else:
                rows += f'<td class="number">{text}</td>'
        rows += "</tr>"
    said = "Mean ± standard deviation over seeds. ★ marks the best mean; where spreads overlap, the order may be luck."
    meanings = "".join(
        f"<dt>{escaped(c.label)}</dt><dd>{escaped(c.explanation)}</dd>" for c in columns if c.explanation
    )
    html = (
        f'<p class="faint">{said}</p><div class="scroll" tabindex="0" role="group" aria-label="Table of the numbers">'
        f'<table class="compare"><thead><tr><th scope="col"></th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )
    if meanings:
        html += f"<details><summary>What the columns mean</summary><dl>{meanings}</dl></details>"
    return section("table", "Side by side", html)


def _mean(entry: ComparisonEntry, key: str, factor: float) -> float | None:
    return scaled(entry.metrics.get(key, (None, None))[0], factor)


def _best(means: Sequence[float | None], better: str) -> set[int]:
    known = [value for value in means if value is not None]
    if not better or len(known) < 2:
        return set()
    top = max(known) if better == "high" else min(known)
    places = {place for place, value in enumerate(means) if value == top}
    return places if len(places) < len(known) else set()


def dots(payload: Payload, content: ComparisonContent) -> Part:
    """The same numbers as small multiples of dots."""
    drawn = payload.dots("dots", content)
    if not drawn:
        return NOTHING
    labels = {column.key: column.label for column in content.columns}
    said = "A dot is the mean over seeds, the bar its standard deviation. Each axis has its own scale."
    body = f'<p class="faint">{said}</p><div class="dots">'
    for place, key in enumerate(drawn):
        body += (
            f'<div id="dots-{place}" role="img" aria-label="{escaped(labels[key])} of each; '
            'the numbers stand in the table above"></div>'
        )
    return section("chart", "The same as a picture", body + "</div>", "Chart")


def columns(payload: Payload, content: ComparisonContent, most: int) -> Part:
    """Scatter, loss curve and overlap of each loss, side by side."""
    cards = ""
    for place, entry in enumerate(content.entries):
        body = f"<p>{escaped(entry.note)}</p>" if entry.note else ""
        if entry.test is not None and len(entry.test.points):
            body += "<h3>Test images</h3>" + scatter_figure(
                payload, f"plot-test-{place}", f"the test images, {entry.name}", entry.test, most
            )
        if any(len(column) for column in entry.history.values()):
            body += "<h3>Loss by epoch</h3>" + loss_figure(payload, f"plot-loss-{place}", entry.history)
        if entry.overlap is not None:
            body += "<h3>Overlap between classes</h3>"
            body += overlap_figure(payload, f"plot-overlap-{place}", entry.overlap)
        cards += section(f"loss-{place}", entry.name, body)[2] if body else ""
    if not cards:
        return NOTHING
    said = f'<p class="faint">{HOVER_HINT} {OVERLAP_CAPTION} Losses of different kinds have different scales.</p>'
    html = f'<section id="each" aria-labelledby="each-h"><h2 id="each-h">Each one</h2>{said}</section>'
    return "each", "Each one", f'{html}<div class="losses">{cards}</div>'
