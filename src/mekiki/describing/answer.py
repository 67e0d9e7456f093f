"""What is said of a part: the words people wrote, what they are asked for, and the fields of an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mekiki.errors import not_known

ATTRIBUTES = ("defect", "place", "severity")
"""Fields of which there are a few values, so that an answer is right or wrong."""
WORDS = ("cause", "repair")
"""Fields in a person's own words."""
FIELDS = (*ATTRIBUTES, *WORDS)
LANGUAGES = ("en", "ja")

ASKS: Mapping[str, Mapping[str, str]] = {
    "en": {"text": "Describe this part.", "fields": "Report on this part as JSON."},
    "ja": {"text": "この部品の状態を説明してください。", "fields": "この部品をJSONで報告してください。"},
}
"""What a describer is asked while it learns, by language and by what it should give."""


@dataclass(frozen=True)
class Text:
    """What a person wrote of one part.

    Attributes:
        part: row of the part among the vectors.
        text: in full.
        language: `en` or `ja`.
        fields: those of `FIELDS` that are known; an answer in fields is learnt where all of `ATTRIBUTES` are.
        group: what is held out together, such as all photographs of one part; `None` is the part by itself.

    Raises:
        InputError: the language is another.
    """

    part: int
    text: str
    language: str
    fields: Mapping[str, str]
    group: str | None = None

    def __post_init__(self) -> None:
        if self.language not in LANGUAGES:
            raise not_known("language", self.language, LANGUAGES)

    @property
    def whole(self) -> bool:
        """Whether an answer in fields can be learnt from it."""
        return all(self.fields.get(name) for name in ATTRIBUTES)


def values_of(texts: Sequence[Text]) -> dict[str, list[str]]:
    """The values that each of `ATTRIBUTES` takes, sorted; empty where no text has all of them.

    Example:
        >>> crack = Text(0, "a crack", "en", {"defect": "crack", "place": "top", "severity": "minor"})
        >>> values_of([crack, Text(1, "fine", "en", {})])
        {'defect': ['crack'], 'place': ['top'], 'severity': ['minor']}
    """
    whole = [text for text in texts if text.whole]
    return {name: sorted({text.fields[name] for text in whole}) for name in ATTRIBUTES} if whole else {}


def json_schema(values: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that every answer in fields keeps to.

    Args:
        values: of each of `ATTRIBUTES`, those it may take; empty for any text.

    Example:
        >>> json_schema({"defect": ["crack"]})["properties"]["defect"]
        {'type': 'string', 'enum': ['crack']}
    """
    properties: dict[str, Any] = {
        name: {"type": "string"} | ({"enum": list(values[name])} if values.get(name) else {})
        for name in FIELDS
    }
    properties["cases"] = {"type": "array", "items": {"type": "string"}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }
