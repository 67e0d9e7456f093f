"""The page of described parts: each photograph beside its description, and the result of the grounding test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mekiki.report.judge_page import SIDE
from mekiki.report.render import write_page
from mekiki.report.thumbnails import data_url, shrink

VECTOR_LABELS: Mapping[str, str] = {
    "true": "its own vector",
    "shuffled": "another part's vector",
    "zeros": "zeros",
    "none": "no vector",
}
"""What the parts are described from in a grounding test, and its label in a table."""


@dataclass(frozen=True, eq=False)
class DescribedPart:
    """One part on the page.

    Attributes:
        name: of the file or the vector.
        description: in words.
        fields: the same in fields.
        pixels: uint8 `[H, W]` or `[H, W, 3]`, or `None`.
        cases: the past cases that the description rests on, in words.
        reference: what a person wrote about the part; empty where nobody did.
        truth: correct values of those fields in which an answer is right or wrong.
    """

    name: str
    description: str
    fields: Mapping[str, str]
    pixels: NDArray[np.uint8] | None = None
    cases: Sequence[str] = ()
    reference: str = ""
    truth: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class DescriptionPage:
    """What the page shows.

    Attributes:
        title: heading.
        parts: in the order in which they are shown.
        test: result of the grounding test, as a mapping; empty without a trained describer.
        facts: how the page was made.
        note: a warning about all descriptions, such as that they are guesses.
        language: of the descriptions.
    """

    title: str
    parts: Sequence[DescribedPart]
    test: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    language: str = "en"


def write_description_page(path: Path, content: DescriptionPage) -> None:
    """Write the page as one HTML file without script that needs no other file and no network.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "described.html"
        >>> part = DescribedPart("a<b>.png", "A crack.", {"defect": "crack"}, truth={"defect": "pit"})
        >>> write_description_page(target, DescriptionPage("Described", [part]))
        >>> "a&lt;b&gt;.png" in target.read_text(encoding="utf-8")
        True
    """
    write_page(
        path,
        "descriptions.html",
        content=content,
        test=content.test,
        vector_labels=VECTOR_LABELS,
        image=lambda pixels: data_url(shrink(pixels, SIDE)),
    )
