"""Descriptions into files: a page to look at, or requests for a server to answer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from mekiki.describing.describe import Explainer, Subject
from mekiki.describing.describer import LONGEST
from mekiki.describing.endpoint import write_requests
from mekiki.describing.remote_describer import language_model_of, rows_for
from mekiki.describing.train_describer import schooling_facts
from mekiki.errors import InputError
from mekiki.report.description_page import DescribedPart, DescriptionPage, write_description_page
from mekiki.storage.atomic import replace_file


class Speaks(Protocol):
    """What answers: an `Explainer`, or a server for it."""

    def stream(self, subject: Subject, ask: str | None = None) -> Iterable[str]:
        """In words."""

    def fields(self, subject: Subject, ask: str | None = None) -> dict[str, str]:
        """In fields."""


def write_descriptions(
    explainer: Explainer, speaks: Speaks, subjects: Iterable[Subject], path: Path, ask: str | None = None
) -> int:
    """A page with each photograph beside what is said of it, and the proof; how many they are.

    Raises:
        InputError: the file does not end in .html, or its folder does not exist.
    """
    if path.suffix != ".html" or path.is_dir():
        raise InputError(f"{path}: give a file that ends in .html")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder; make it first")
    parts = []
    for subject in subjects:
        said = "".join(speaks.stream(subject, ask))
        fields = speaks.fields(subject)
        rests = [
            f"[{case['id']}] {case['label']}: {case['note']}"
            for case in explainer.rests_on(subject, said, fields)
        ]
        parts.append(DescribedPart(subject.name, said, fields, subject.pixels, rests))
    facts = schooling_facts(explainer.facts) if explainer.describer else {}
    with replace_file(path) as temporary:
        page = DescriptionPage(
            "Described", parts, explainer.proof, facts, explainer.warning, explainer.language
        )
        write_description_page(temporary, page)
    return len(parts)


def write_server_requests(
    explainer: Explainer, subjects: Iterable[Subject], path: Path, ask: str | None = None
) -> int:
    """What a vLLM server would be sent about each part, one JSON object a line; how many they are.

    Raises:
        InputError: the run speaks with no language model.
    """
    rows = ((subject.name, rows_for(explainer, subject, ask)) for subject in subjects)
    return write_requests(path, rows, language_model_of(explainer), max_tokens=LONGEST)
