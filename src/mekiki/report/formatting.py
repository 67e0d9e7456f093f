"""Numbers as text with sensible digits, and data as JSON for a page's script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup


def format_number(value: object, digits: int = 4) -> str:
    """A value with four significant digits and separated thousands; `–` for what is missing or not finite.

    Example:
        >>> [format_number(value) for value in (0.96671, 12345, 1.2e-5, float("nan"), None, True, 12.0)]
        ['0.9667', '12,345', '1.2e-05', '–', '–', 'yes', '12']
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return "–"
        return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"
    return str(value)


def format_mean(mean: float | None, deviation: float | None) -> str:
    """`mean ± sd`, the mean with as many places as its standard deviation allows.

    Example:
        >>> format_mean(96.704, 0.123), format_mean(0.81, None), format_mean(float("nan"), 1.0)
        ('96.70 ± 0.12', '0.81', '–')
    """
    if mean is None or not math.isfinite(mean):
        return "–"
    if deviation is None or not math.isfinite(deviation) or deviation <= 0:
        return format_number(mean)
    places = min(max(1 - math.floor(math.log10(deviation)), 0), 6)
    return f"{mean:,.{places}f} ± {deviation:,.{places}f}"


def format_value(value: Any) -> str:
    """Like `format_number`, for lists too; a matrix is given by its number of rows."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        if any(isinstance(item, Sequence) and not isinstance(item, str) for item in value):
            return f"{len(value)} rows"
        shown = ", ".join(format_number(item) for item in value[:12])
        return shown + (f", … ({len(value)} values)" if len(value) > 12 else "")
    return format_number(value)


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested numbers as (dotted name, value); a list of numbers stays one value.

    Example:
        >>> flatten({"test": {"knn": 0.97, "n": 3}})
        [('test.knn', 0.97), ('test.n', 3)]
    """
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += flatten(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", value))
    return rows


def script_json(data: Any) -> Markup:
    r"""JSON for a `<script type="application/json">`: five digits, null for NaN, and no character that ends the script.

    Half a surrogate pair, as in a broken file name, becomes `?`.

    Example:
        >>> str(script_json({"name": "</script>", "loss": float("nan"), "points": np.array([0.123456789])}))
        '{"name":"\\u003c/script\\u003e","loss":null,"points":[0.12346]}'
    """
    text = htmlsafe_json_dumps(_plain(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.encode("utf-8", "replace").decode("utf-8"))


def _plain(data: Any) -> Any:
    if isinstance(data, np.ndarray | np.generic):
        data = data.tolist()
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    if isinstance(data, float):
        return float(f"{data:.5g}") if math.isfinite(data) else None
    return data
