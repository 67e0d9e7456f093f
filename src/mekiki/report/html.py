"""The sections of a run's report as HTML; what they draw is added to the payload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from mekiki.report.content import (
    ConfusedPairs,
    Finding,
    Headline,
    History,
    PairDistances,
    ReportContent,
    ScatterContent,
)
from mekiki.report.figures.charts import check_pairs
from mekiki.report.payload import MOST_POINTS, Payload
from mekiki.report.thumbnails import LARGEST_PAIR, pair_image
from mekiki.report.wording import escaped, flattened, format_value, number

Part = tuple[str, str, str]  # id, name in the navigation, HTML; all empty where there is nothing to show
NOTHING: Part = ("", "", "")

OVERLAP_CAPTION = (
    "Each cell: the probability that two images of the row class lie farther apart than one of the row and one of the "
    "column class. 0 % is apart, 50 % is one cloud; grey cells were not measured."
)
HOVER_HINT = (
    "Point at a dot to see its image; with the keyboard, focus the plot and use the arrow keys. "
    "The buttons hide and show classes."
)
SEVERITIES = {"ok": "OK", "notice": "Notice", "problem": "Problem"}


def section(anchor: str, heading: str, body: str, name: str = "") -> Part:
    """A section with its heading, as (id, name in the navigation, HTML)."""
    title = f'<h2 id="{anchor}-h">{escaped(heading)}</h2>'
    html = f'<section id="{anchor}" aria-labelledby="{anchor}-h">{title}\n{body}</section>'
    return anchor, name or heading, html


def headline(numbers: Sequence[Headline]) -> Part:
    """The table of the numbers that matter."""
    if not numbers:
        return NOTHING
    rows = "".join(
        f'<tr><th scope="row">{escaped(label)}</th><td class="value">{escaped(number(value))}</td>'
        f"<td>{escaped(explanation)}</td></tr>"
        for label, value, explanation in numbers
    )
    head = '<thead><tr><th scope="col">what</th><th scope="col">value</th><th scope="col">in words</th></tr></thead>'
    table = f'<table class="headline">{head}<tbody>{rows}</tbody></table>'
    return section("headline", "The numbers that matter", table, "Headline")


def findings(found: Sequence[Finding]) -> Part:
    """What the collapse doctor says."""
    if not found:
        return NOTHING
    body = ""
    for severity, message, advice in found:
        kind = severity if severity in SEVERITIES else "notice"
        body += f'<div class="finding {kind}"><p><strong>{SEVERITIES[kind]}</strong>{escaped(message)}</p>'
        body += f'<p class="faint">{escaped(advice)}</p></div>' if advice else "</div>"
    return section("doctor", "What the collapse doctor says", body, "Doctor")


def notes(sentences: Sequence[str]) -> Part:
    """What is noteworthy about the data."""
    if not sentences:
        return NOTHING
    body = "".join(f'<div class="finding notice"><p>{escaped(note)}</p></div>' for note in sentences)
    return section("notes", "About the data", body, "Data")


def scatter_figure(payload: Payload, target: str, said: str, content: ScatterContent, most: int) -> str:
    """A scatter with its legend and its caption; `said` names it for a screen reader."""
    note = payload.scatter(target, content, most)
    return (
        f'<figure><div class="legend" role="group" aria-label="Classes in the scatter of {escaped(said)}"></div>'
        f'<div class="plot scatter" id="{target}" role="group" tabindex="0" aria-label="Scatter of {escaped(said)}, '
        f'{len(content.points):,} points. Arrow keys step through the images."></div>'
        f"<figcaption>{escaped(note)}</figcaption></figure>"
    )


def scatters(payload: Payload, content: ReportContent) -> Part:
    """The scatters of test and training images beside each other."""
    sides = [
        (which, f"{which.capitalize()} images", side)
        for which, side in (("test", content.test), ("training", content.train))
        if side is not None and len(side.points)
    ]
    sections = [
        section(
            f"scatter-{which}",
            heading,
            f'<p class="faint">{HOVER_HINT}</p>'
            + scatter_figure(payload, f"plot-{which}", f"the {which} images", side, MOST_POINTS),
        )[2]
        for which, heading, side in sides
    ]
    if not sections:
        return NOTHING
    return f"scatter-{sides[0][0]}", "Scatter", f'<div class="pair">{"".join(sections)}</div>'


def loss_figure(payload: Payload, target: str, history: History) -> str:
    """The loss curve."""
    payload.loss(target, history)
    panels = payload.plots[-1]["panels"]
    said = "; ".join(
        f"{curve['name']} {panel['unit']} ends at {number(_last(curve['values']))}"
        for panel in panels
        for curve in panel["curves"]
    )
    two = " two" if len(panels) > 1 else ""
    return (
        f'<figure><div class="plot loss{two}" id="{target}" role="img" aria-label="Curves by epoch: {escaped(said)}">'
        "</div></figure>"
    )


def _last(values: NDArray[np.float64]) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if len(finite) else None


def loss(payload: Payload, history: History) -> Part:
    """The loss curve and the time an epoch took."""
    if not any(len(column) for column in history.values()):
        return NOTHING
    seconds = [value for value in history.get("seconds", ()) if value is not None and np.isfinite(value)]
    body = loss_figure(payload, "plot-loss", history)
    if seconds:
        body += f'<p class="faint">{number(float(np.mean(seconds)), 3)} s an epoch on average.</p>'
    return section("loss", "Loss by epoch", body, "Loss")


def distances(payload: Payload, content: PairDistances | None) -> Part:
    """The histograms of pair distances."""
    if content is None:
        return NOTHING
    beyond = payload.distances("plot-distances", content)
    said = (
        "How far apart two images of one class lie, and two images of different classes. Where the two hills overlap, "
        "a threshold on the distance must err"
    )
    said += (
        "; at the dashed line both errors are equally frequent." if np.isfinite(content.threshold) else "."
    )
    if beyond:
        said += f" {100 * beyond:.1g} % of the pairs of a kind lie farther apart than the axis reaches."
    found = f"threshold {number(content.threshold)}, equal error rate {number(content.eer)}"
    body = (
        f'<p class="faint">{escaped(said)}</p><figure><div class="plot distances" id="plot-distances" role="img" '
        f'aria-label="Histogram of pair distances, {escaped(found)}"></div></figure>'
    )
    return section("distances", "Distances of pairs", body, "Distances")


def overlap_figure(payload: Payload, target: str, matrix: NDArray[np.floating[Any]]) -> str:
    """The heat map of overlap, and a table of the classes that overlap most."""
    values = payload.overlap(target, matrix)
    rows = ""
    filled = np.where(np.isfinite(values), values, -1.0)
    np.fill_diagonal(filled, -1.0)
    for place in np.argsort(-filled, axis=None, kind="stable")[:8]:
        row, column = divmod(int(place), len(values))
        if filled[row, column] >= 0:
            first, second = escaped(payload.class_names[row]), escaped(payload.class_names[column])
            rows += f'<tr><td>{first}</td><td>{second}</td><td class="number">{100 * filled[row, column]:.1f}</td></tr>'
    table = (
        '<div class="scroll"><table><caption>The pairs of classes that overlap most</caption><thead><tr>'
        '<th scope="col">two of</th><th scope="col">against one of</th><th scope="col" class="number">overlap (%)</th>'
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    figure = (
        f'<figure><div class="plot overlap" id="{target}" role="img" aria-label="Heat map of the overlap between '
        f'{len(values)} classes; the largest values stand in the table beside it"></div></figure>'
    )
    return f'<div class="beside">{figure}{table if rows else ""}</div>'


def overlap(payload: Payload, matrix: NDArray[np.floating[Any]] | None) -> Part:
    """The heat map of overlap, explained."""
    if matrix is None:
        return NOTHING
    body = f'<p class="faint">{OVERLAP_CAPTION}</p>' + overlap_figure(payload, "plot-overlap", matrix)
    return section("overlap", "Overlap between classes", body, "Overlap")


def confused(groups: Sequence[ConfusedPairs]) -> Part:
    """Lists of image pairs."""
    body = ""
    for group in groups:
        check_pairs(group.pixels_a, group.pixels_b, group.captions)
        body += f"<h3>{escaped(group.title)}</h3>"
        body += f'<p class="faint">{escaped(group.explanation)}</p>' if group.explanation else ""
        if not len(group.captions):
            body += "<p>No such pair.</p>"
            continue
        tiny = "tiny" if max(group.pixels_a.shape[1:3]) <= LARGEST_PAIR // 2 else ""
        height, width = group.pixels_a.shape[1:3]
        size = f'width="{width}" height="{height}" style="aspect-ratio:{width}/{height}"'
        items = ""
        for left, right, caption in zip(group.pixels_a, group.pixels_b, group.captions, strict=True):
            images = "".join(
                f'<img class="{tiny}" src="{pair_image(pixels)}" {size} '
                f'alt="{side} image of the pair: {escaped(caption)}">'
                for side, pixels in (("left", left), ("right", right))
            )
            items += f"<li><div>{images}</div><p>{escaped(caption)}</p></li>"
        body += f'<ul class="images">{items}</ul>'
    return section("confused", "Most confused pairs", body, "Confused pairs") if body else NOTHING


def metrics(numbers: Mapping[str, Any]) -> Part:
    """The table of all numbers."""
    rows = "".join(
        f'<tr><th scope="row"><code>{escaped(name)}</code></th>'
        f'<td class="number">{escaped(format_value(value))}</td></tr>'
        for name, value in flattened(numbers)
    )
    if not rows:
        return NOTHING
    table = (
        '<div class="scroll"><table class="numbers">'
        "<caption>As in <code>metrics.json</code>, shown with four digits.</caption><thead>"
        '<tr><th scope="col">name</th><th scope="col" class="number">value</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )
    return section("numbers", "All numbers", table, "All numbers")


def origin(facts: Mapping[str, str], files: Sequence[tuple[str, str]]) -> Part:
    """How it was made, and the files beside the page."""
    body = ""
    if facts:
        rows = "".join(f"<dt>{escaped(key)}</dt><dd>{escaped(value)}</dd>" for key, value in facts.items())
        body += f"<dl>{rows}</dl>"
    if files:
        rows = "".join(
            # `./` first: a name such as `javascript:…` must stay a file's name.
            f'<tr><td><a href="./{escaped(quote(name.encode("utf-8", "replace")))}">{escaped(name)}</a></td>'
            f"<td>{escaped(what)}</td></tr>"
            for name, what in files
        )
        body += (
            '<h3>Files beside this page</h3><div class="scroll"><table><thead><tr><th scope="col">file</th>'
            f'<th scope="col">what it holds</th></tr></thead><tbody>{rows}</tbody></table></div>'
        )
    return section("origin", "How it was made", body) if body else NOTHING
