"""A server speaks: soft tokens go out as the embeddings of a whole prompt, words come back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from torch import Tensor

from mekiki.describing.answer import ATTRIBUTES, FIELDS
from mekiki.describing.describe import Explainer, Subject
from mekiki.describing.describer import LONGEST
from mekiki.describing.endpoint import Endpoint
from mekiki.errors import InputError

LONGEST_FIELDS = 400
"""Tokens of an answer in fields at most."""


class Remote:
    """Lets a server with the same language model answer; speaks as an `Explainer` does.

    Args:
        explainer: whose describer makes the soft tokens.
        url: of the server's API, such as `http://HOST:8000/v1`.
        model: the name by which the server knows the language model; `None` is that which the describer learnt with.

    Raises:
        InputError: the run speaks with no language model.
    """

    def __init__(self, explainer: Explainer, url: str, model: str | None = None) -> None:
        self._explainer = explainer
        self._endpoint = Endpoint(url, model or language_model_of(explainer))

    def check(self, ask: str | None) -> None:
        """See `Explainer.check`."""
        self._explainer.check(ask)

    def stream(self, subject: Subject, ask: str | None = None) -> Iterator[str]:
        """In words, piece by piece; see `Explainer.stream`."""
        yield from self._endpoint.stream(rows_for(self._explainer, subject, ask), max_tokens=LONGEST)

    def fields(self, subject: Subject, ask: str | None = None) -> dict[str, str]:
        """The fields alone; see `Explainer.fields`.

        A server does not promise the form, so what it says is repaired: an attribute becomes the nearest value that was
        learnt, a field that lacks becomes "unknown".

        Raises:
            InputError: there is no JSON in what the server said.
        """
        rows = rows_for(self._explainer, subject, ask, kind="fields")
        said = "".join(self._endpoint.stream(rows, max_tokens=LONGEST_FIELDS))
        describer = self._explainer.describer
        return repaired(said, {} if describer is None else describer.values)

    def report(self, subject: Subject, ask: str | None = None) -> dict[str, Any]:
        """In fields, with what they rest on; see `Explainer.report`.

        Raises:
            InputError: as `fields`.
        """
        return self._explainer.told(subject, self.fields(subject, ask))


def language_model_of(explainer: Explainer) -> str:
    """The name of the language model that a run speaks with.

    Raises:
        InputError: it has none but a small one of its own, which no server knows.
    """
    if explainer.describer is None or explainer.describer.lm.own:
        raise InputError(
            f"{explainer.run}: speaks with no language model that a server could have; "
            "`mekiki describe-train … --lm NAME` gives it one"
        )
    return explainer.describer.lm.name


def rows_for(explainer: Explainer, subject: Subject, ask: str | None = None, kind: str = "text") -> Tensor:
    """The embeddings of the whole prompt about a part: `[L, hidden]`."""
    language_model_of(explainer)
    assert explainer.describer is not None
    rows, _ = explainer.describer.prompt_rows(subject.part, explainer.question(subject, kind, ask))
    return rows[0]


def repaired(said: str, values: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The fields in what a language model said, made valid.

    Args:
        said: JSON, with or without words around it.
        values: of each of `mekiki.describing.answer.ATTRIBUTES`, those it may take.

    Raises:
        InputError: there is no JSON object in it.

    Example:
        >>> repaired('Sure! {"defect": "Cracks", "place": "top"}', {"defect": ["crack", "pit"]})["defect"]
        'crack'
    """
    for start in (place for place, letter in enumerate(said) if letter == "{"):
        try:
            found, _ = json.JSONDecoder().raw_decode(said[start:])
        except ValueError:
            continue
        fields = {name: str(found.get(name) or "unknown") for name in FIELDS}
        for name in ATTRIBUTES:
            known = list(values.get(name, ()))
            if known and fields[name] not in known:
                near = get_close_matches(fields[name].lower(), known, 1, cutoff=0.0)
                fields[name] = near[0]
        return fields
    raise InputError(f"the server gave no JSON, but {said[:80]!r}; ask again, or leave out --format json")
