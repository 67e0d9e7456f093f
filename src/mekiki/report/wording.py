"""Text that goes into a page: escaped, and numbers with sensible digits."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def escaped(text: object) -> str:
    """Text for HTML, in an element or in a quoted attribute; half a surrogate pair (a broken file name) becomes `?`.

    Example:
        >>> escaped("<b>'a' & b</b>")
        '&lt;b&gt;&#x27;a&#x27; &amp; b&lt;/b&gt;'
    """
    return html.escape(_whole(str(text)))


def number(value: object, digits: int = 4) -> str:
    """A value for a person: four significant digits, thousands apart, and `–` for what is missing or not finite.

    Example:
        >>> [number(value) for value in (0.96671, 12345, 1.2e-5, float("nan"), None, True, 12.0)]
        ['0.9667', '12,345', '1.2e-05', '–', '–', 'yes', '12']
    """
    if isinstance(value, np.generic):
        value = value.item()
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


def mean_and_spread(mean: float | None, spread: float | None) -> str:
    """`mean ± sd` with the mean as exact as its standard deviation allows.

    Example:
        >>> mean_and_spread(96.704, 0.123), mean_and_spread(0.81, None), mean_and_spread(float("nan"), 1.0)
        ('96.70 ± 0.12', '0.81', '–')
    """
    if mean is None or not math.isfinite(mean):
        return "–"
    if spread is None or not math.isfinite(spread) or spread <= 0:
        return number(mean)
    places = min(max(1 - math.floor(math.log10(spread)), 0), 6)
    return f"{mean:,.{places}f} ± {spread:,.{places}f}"


def flattened(values: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Nested numbers as (dotted name, value); a list of numbers stays one value.

    Example:
        >>> flattened({"test": {"knn": 0.97, "n": 3}})
        [('test.knn', 0.97), ('test.n', 3)]
    """
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            rows += flattened(value, f"{name}.")
        else:
            rows.append((name, value))
    return rows


def format_value(value: Any) -> str:
    """Like `number`, for lists too; a matrix is named by its size."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        if any(isinstance(item, Sequence) and not isinstance(item, str) for item in value):
            return f"{len(value)} rows"
        shown = ", ".join(number(item) for item in value[:12])
        return shown + (f", … ({len(value)} values)" if len(value) > 12 else "")
    return number(value)


def as_script(data: Any) -> str:
    r"""JSON that may stand inside `<script type="application/json">`: NaN is null, and no tag can end the script.

    Example:
        >>> as_script({"name": "</script>", "loss": float("nan"), "points": np.array([0.123456789])})
        '{"name":"\\u003c/script\\u003e","loss":null,"points":[0.12346]}'
    """
    text = json.dumps(_plain(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _plain(data: Any) -> Any:
    if isinstance(data, np.ndarray | np.generic):
        data = data.tolist()
    if isinstance(data, Mapping):
        return {_whole(str(key)): _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    if isinstance(data, float):
        return float(f"{data:.5g}") if math.isfinite(data) else None
    return _whole(data) if isinstance(data, str) else data


def _whole(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
