"""Phrases of inspection reports in English and Japanese, read from `report_phrases.json`.

A phrase for one fact contains no phrase for another fact of its kind, unless the longer one is matched first; and no
cause and no repair contains a phrase for a place or a severity, or the name of another defect. So facts can be read
back from a text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

Choices = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Phrases:
    """Phrases of one language.

    Attributes:
        defects: what a defect may be called.
        several: the same for more than one; a language without plurals has the same words.
        places: what a place may be called.
        severities: adjectives, as they stand after "is"; before a noun they get `endings`.
        endings: for an adjective, what comes between it and the noun.
        findings: sentences that name defect, place and severity.
        terse: the same in a few words.
        clean: texts that say that nothing was found.
        clean_said: the words in them by which that is known.
        causes: what may have caused a defect.
        repairs: what may be done, by defect, from mild to thorough: two neighbours for each severity.
        cause_said: sentences around a cause.
        repair_said: sentences around a repair.
        lengths: sentences around the length of a line.
        areas: sentences around the share of the surface.
        nothing: what stands for the cause and the repair of a clean part.
        between: what stands between sentences.
    """

    defects: Choices
    several: Choices
    places: Choices
    severities: Choices
    endings: Mapping[str, str]
    findings: tuple[str, ...]
    terse: tuple[str, ...]
    clean: tuple[str, ...]
    clean_said: tuple[str, ...]
    causes: Choices
    repairs: Choices
    cause_said: tuple[str, ...]
    repair_said: tuple[str, ...]
    lengths: tuple[str, ...]
    areas: tuple[str, ...]
    nothing: str
    between: str


def _read(language: Mapping[str, object]) -> Phrases:
    return Phrases(**{name: _freeze(value) for name, value in language.items()})


def _freeze(value: object) -> Any:
    """Lists of JSON as tuples."""
    if isinstance(value, dict):
        return {key: _freeze(inner) for key, inner in value.items()}
    return tuple(value) if isinstance(value, list) else value


_TEXT = resources.files("mekiki.data").joinpath("report_phrases.json").read_text(encoding="utf-8")

LANGUAGES: Mapping[str, Phrases] = {code: _read(language) for code, language in json.loads(_TEXT).items()}
"""Phrases by the code of the language."""
ENGLISH = LANGUAGES["en"]
