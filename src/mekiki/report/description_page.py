"""A page of described parts: each beside what is said of it, and the proof that the words come from the vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.report.judge_page import SIDE, STYLE
from mekiki.report.thumbnails import address, fitted
from mekiki.report.wording import escaped, number
from mekiki.storage.atomic import write_text

_STYLE = """
.parts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,520px),1fr));gap:1rem;list-style:none;
  padding:0;align-items:start}
.parts .card{display:grid;grid-template-columns:170px 1fr;gap:.2rem 1rem}
.parts img{width:170px;height:auto;border-radius:4px;image-rendering:auto}
.parts p{margin:.3rem 0}
.wrong{color:var(--ng)}
.right{color:var(--ok)}
table{border-collapse:collapse;margin:.6rem 0}
th,td{padding:.2rem .8rem;border-bottom:1px solid var(--line);text-align:right}
th:first-child,td:first-child{text-align:left}
.scroll{overflow-x:auto}
@media (max-width:480px){.parts .card{grid-template-columns:1fr}}
"""

ROWS: Mapping[str, str] = {
    "true": "its own vector",
    "shuffled": "another part's vector",
    "zeros": "zeros",
    "none": "no vector",
}
"""What parts are described from in a proof, and how it is called."""


@dataclass(frozen=True, eq=False)
class Described:
    """One part on the page.

    Attributes:
        name: of the file or the vector.
        said: in words.
        fields: the same in fields.
        pixels: uint8 `[H, W]` or `[H, W, 3]`, or `None`.
        cases: the past cases it rests on, in words.
        written: what a person wrote of it; empty where nobody did.
        truth: those of the fields in which an answer is right or wrong, as they are in truth.
    """

    name: str
    said: str
    fields: Mapping[str, str]
    pixels: NDArray[np.uint8] | None = None
    cases: Sequence[str] = ()
    written: str = ""
    truth: Mapping[str, str] = field(default_factory=dict)


def write_described(
    path: Path,
    title: str,
    parts: Sequence[Described],
    proof: Mapping[str, Any],
    facts: Mapping[str, str],
    *,
    note: str = "",
    language: str = "en",
) -> None:
    """Write the page as one HTML file without script that needs no other file and no network.

    Args:
        path: the file.
        title: its heading.
        parts: in the order in which they are shown.
        proof: what the proof came to; empty where nothing has learnt.
        facts: how it was made, for the foot of the page.
        note: what is to be known of all answers, such as that they are guesses.
        language: of the answers.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "described.html"
        >>> part = Described("a<b>.png", "A crack.", {"defect": "crack"}, truth={"defect": "pit"})
        >>> write_described(target, "Described", [part], {}, {})
        >>> "a&lt;b&gt;.png" in target.read_text(encoding="utf-8")
        True
    """
    shown = "".join(_card(part, language) for part in parts)
    foot = "".join(f"<dt>{escaped(key)}</dt><dd>{escaped(value)}</dd>" for key, value in facts.items())
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    warned = f'<p class="ng"><strong>{escaped(note)}</strong></p>' if note else ""
    write_text(
        path,
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><link rel="icon" href="data:,">'
        f"<title>{escaped(title)}</title><style>{STYLE}{_STYLE}</style></head><body><header>"
        f'<p class="faint"><span lang="ja">目利き</span> mekiki</p><h1>{escaped(title)}</h1>{warned}</header>'
        f'<main><ul class="parts">{shown}</ul>{proof_table(proof)}'
        f"{f'<h2>How it was made</h2><dl>{foot}</dl>' if foot else ''}</main></body></html>\n",
    )


def proof_table(proof: Mapping[str, Any]) -> str:
    """The proof as HTML; empty where there is none.

    Args:
        proof: as `mekiki.describing.grounding.Proof.told` tells it.
    """
    if not proof:
        return ""
    columns = list(proof["most"])
    head = "".join(f'<th scope="col">{name} right</th>' for name in columns)
    body = "".join(
        f'<tr><th scope="row">{said}</th><td>{number(proof["loss"][vectors])}</td>'
        + "".join(f"<td>{_percent(proof['right'][vectors][name])}</td>" for name in columns)
        + "</tr>"
        for vectors, said in ROWS.items()
    )
    if columns:
        body += '<tr><th scope="row">always the most frequent</th><td></td>' + "".join(
            f"<td>{_percent(proof['most'][name])}</td>" for name in columns
        )
        body += "</tr>"
        for source, values in proof["readable"].items():
            body += f'<tr><th scope="row">linear probe of {escaped(source)}</th><td></td>' + "".join(
                f"<td>{_percent(values[name]) if name in values else '–'}</td>" for name in columns
            )
            body += "</tr>"
    kind = "right" if proof["reads"] else "wrong"
    return (
        f'<section><h2>Does it read the vector?</h2><p class="{kind}">{escaped(proof["sentence"])}</p>'
        f'<div class="scroll"><table><thead><tr><th scope="col">described from</th>'
        f'<th scope="col">loss, nats a token</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<p class="faint">Of {proof["parts"]:,} parts that had no part in learning. Zeros: every item has its mean. '
        "A linear probe shows what can be read at all.</p></section>"
    )


def _card(part: Described, language: str) -> str:
    image = ""
    if part.pixels is not None:
        image = f'<img src="{address(fitted(part.pixels, SIDE))}" alt="{escaped(part.name)}">'
    rows = ""
    for name, value in part.fields.items():
        true = part.truth.get(name)
        shown = escaped(value)
        if true is not None:
            kind, more = ("right", "") if true == value else ("wrong", f" (in truth {escaped(true)})")
            shown = f'<span class="{kind}">{shown}{more}</span>'
        rows += f"<dt>{escaped(name)}</dt><dd>{shown}</dd>"
    cases = f"<dt>cases</dt><dd>{escaped('; '.join(part.cases))}</dd>" if part.cases else ""
    written = f'<p class="faint">Written by a person: {escaped(part.written)}</p>' if part.written else ""
    return (
        f'<li class="card"><div>{image}</div><div><p class="name">{escaped(Path(part.name).name)}</p>'
        f'<p lang="{language}">{escaped(part.said)}</p><dl>{rows}{cases}</dl>{written}</div></li>'
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
