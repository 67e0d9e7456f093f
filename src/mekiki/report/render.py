"""Pages from Jinja2 templates: each is one HTML file that needs no other file and no network."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mekiki.report.formatting import format_mean, format_number, format_value
from mekiki.storage.atomic import write_text


def write_page(path: Path, template: str, **content: Any) -> None:
    """Render a template of `mekiki/report/templates` and write the page in one step.

    Args:
        path: the HTML file.
        template: file name of the template.
        content: what the template shows; text is escaped.
    """
    html = _environment().get_template(template).render(content)
    # Half a surrogate pair, as in a broken file name, has no UTF-8.
    write_text(path, html.encode("utf-8", "replace").decode("utf-8"))


@cache
def _environment() -> Environment:
    loader = PackageLoader("mekiki.report", "templates")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    environment.globals |= {
        "asset": lambda name: Markup(loader.get_source(environment, name)[0]),
        "plotly": _plotly,
    }
    environment.filters |= {
        "number": format_number,
        "mean": lambda values: format_mean(*values),
        "last_finite": lambda values: next((value for value in values[::-1] if math.isfinite(value)), None),
        "value": format_value,
        "percent": lambda share: f"{100 * share:.1f} %",
        "basename": lambda name: Path(name).name,
        "file_address": lambda name: "./" + quote(name, errors="replace"),
    }
    environment.tests["finite"] = math.isfinite
    return environment


def _plotly() -> Markup:
    """The text of plotly.js, in which no `</script` can end the page's script."""
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs().replace("</script", "<\\/script"))
