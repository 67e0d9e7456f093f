"""Writing a report: its sections, the data for its script and everything they need, in one file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from mekiki.report import comparison_page, html
from mekiki.report.content import ComparisonContent, ReportContent
from mekiki.report.payload import MOST_POINTS, Payload
from mekiki.report.wording import as_script, escaped
from mekiki.storage.atomic import write_text


def write_report(path: Path, content: ReportContent) -> None:
    """Write the report of one run as one HTML file that needs no other file and no network.

    The file is written in one step. It holds plotly.js once (about 5 MB) and the thumbnails of at most 4,000 images
    a scatter; more points than that are thinned at random, and the page says so.

    Args:
        path: the file, usually `report.html` in the run folder.
        content: what it shows.

    Raises:
        InputError: parts of the content do not fit together.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "report.html"
        >>> write_report(target, ReportContent("By hand", ["ok", "ng"], history={"train_loss": [0.2, 0.1]}))
        >>> "<h1>By hand</h1>" in target.read_text(encoding="utf-8")
        True
    """
    payload = Payload(content.class_names)
    shown = [
        html.headline(content.headline),
        html.findings(content.findings),
        html.notes(content.notes),
        html.scatters(payload, content),
        html.loss(payload, content.history),
        html.distances(payload, content.distances),
        html.overlap(payload, content.overlap),
        html.confused(content.confused),
        html.metrics(content.metrics),
        html.origin(content.facts, content.files),
    ]
    _write(path, content.title, content.subtitle, shown, payload)


def write_comparison(path: Path, content: ComparisonContent) -> None:
    """Write a side-by-side report of several losses as one HTML file that needs no other file and no network.

    Args:
        path: the file.
        content: what it shows. Where the entries share their test images, the images are stored once.

    Raises:
        InputError: parts of the content do not fit together.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "comparison.html"
        >>> from mekiki.report.content import ComparisonEntry
        >>> siamese = ComparisonEntry("siamese", {"knn": (0.967, 0.001)})
        >>> triplet = ComparisonEntry("triplet", {"knn": (0.971, 0.002)})
        >>> write_comparison(target, ComparisonContent("Two losses", ["ok", "ng"], [siamese, triplet]))
        >>> "96.70 ± 0.10" in target.read_text(encoding="utf-8")
        True
    """
    payload = Payload(content.class_names)
    most = min(MOST_POINTS, 8_000 // max(len(content.entries), 1))
    shown = [
        comparison_page.claim(content.claim),
        comparison_page.table(content),
        comparison_page.dots(payload, content),
        comparison_page.columns(payload, content, most),
        html.origin(content.facts, content.files),
    ]
    _write(path, content.title, content.subtitle, shown, payload)


def _write(path: Path, title: str, subtitle: str, sections: Sequence[html.Part], payload: Payload) -> None:
    from plotly.offline import get_plotlyjs

    shown = [section for section in sections if section[2]]
    folder = resources.files("mekiki.report")
    fields = {
        "title": escaped(title),
        "subtitle": f'<p class="faint">{escaped(subtitle)}</p>' if subtitle else "",
        "nav": "".join(f'<li><a href="#{anchor}">{escaped(name)}</a></li>' for anchor, name, _ in shown),
        "sections": "\n".join(html for _, _, html in shown),
        "data": as_script(payload.data()),
        # A script element ends at the first closing tag, wherever it stands.
        "plotly": get_plotlyjs().replace("</script", "<\\/script"),
        "css": folder.joinpath("report.css").read_text(encoding="utf-8"),
        "js": folder.joinpath("report.js").read_text(encoding="utf-8"),
    }
    template = folder.joinpath("template.html").read_text(encoding="utf-8")
    write_text(path, re.sub(r"\[\[(\w+)\]\]", lambda found: fields[found[1]], template))
