"""Answers of a fixed form: the fields of a report, and decoding that cannot leave the form.

A schema is a sequence of pieces: fixed text, a choice among a few values, and free text up to the next piece. Each
piece is tokenised by itself, so training sees exactly the tokens that decoding later forces, and the JSON around the
pieces is valid whatever the model prefers.

References:
    Willard and Louf, *Efficient Guided Generation for Large Language Models*, 2023, arXiv 2307.09702; here for the
    simplest of grammars.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional

from mekiki.describing.language_model import LanguageModel
from mekiki.errors import InputError

ATTRIBUTES = ("defect", "place", "severity")
"""Fields with a few possible values, so that an answer is right or wrong."""
WORDS = ("cause", "repair")
"""Fields in free words."""
FIELDS = (*ATTRIBUTES, *WORDS)
LANGUAGES = ("en", "ja")

QUESTIONS: Mapping[str, Mapping[str, str]] = {
    "en": {"text": "Describe this part.", "fields": "Report on this part as JSON."},
    "ja": {"text": "この部品の状態を説明してください。", "fields": "この部品をJSONで報告してください。"},
}
"""The questions that a describer is trained on, by language and by kind of answer."""

_NOT_IN_FREE_TEXT = re.compile(r'["\\\x00-\x1f\x7f\u2028\u2029\ufffd]')
"""Characters that would end the JSON string or the line."""


def json_schema(values: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of every answer in fields.

    Args:
        values: the possible values of each of `ATTRIBUTES`; empty allows any text.

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


@dataclass(frozen=True)
class FixedText:
    """A piece that is always the same text."""

    text: str


@dataclass(frozen=True)
class Choice:
    """A piece that is one of a few values, each written as in a JSON string."""

    options: Sequence[str]


@dataclass(frozen=True)
class FreeText:
    """A piece of at most `limit` tokens without quotes, backslashes and control characters."""

    limit: int


Piece = FixedText | Choice | FreeText


@dataclass(frozen=True)
class _State:
    """Position in an answer: the number of the piece (that of pieces at the end) and the tokens of it so far."""

    piece: int = 0
    ids: tuple[int, ...] = ()


class Schema:
    """A form of answers in the tokens of a language model.

    Args:
        pieces: in order; fixed text must follow each choice and each free text.
        lm: the language model whose tokens are used.

    Attributes:
        longest: number of tokens of the longest answer, its end included.

    Raises:
        InputError: a choice is empty, or no fixed text follows it.

    Example:
        >>> lm = LanguageModel.small(["crack pit oil"], vocabulary=270, layers=1, width=32)
        >>> schema = Schema([FixedText('{"defect": "'), Choice(["crack", "pit"]), FixedText('"}')], lm)
        >>> lm.decode(schema.encode(["pit"])), schema.read(schema.encode(["pit"]))
        ('{"defect": "pit"}', ['pit'])
    """

    def __init__(self, pieces: Sequence[Piece], lm: LanguageModel) -> None:
        self.pieces, self.lm = list(pieces), lm
        for piece, following in zip(self.pieces, [*self.pieces[1:], None], strict=True):
            if not isinstance(piece, FixedText) and not isinstance(following, FixedText):
                raise InputError("a schema must have fixed text behind each choice and each free text")
            if isinstance(piece, Choice) and not (piece.options and all(piece.options)):
                raise InputError("a schema has a choice without options, or with an empty one")
        self._options = [[tuple(lm.encode(text)) for text in _texts(piece)] for piece in self.pieces]
        self.longest = 1 + sum(
            piece.limit if isinstance(piece, FreeText) else max(map(len, options))
            for piece, options in zip(self.pieces, self._options, strict=True)
        )

    def encode(self, values: Sequence[str]) -> list[int]:
        """Token ids of an answer, without the end token.

        Args:
            values: of the choices and the free texts, in order. Characters that free text cannot hold are replaced, and
                free text that is too long is cut.

        Raises:
            InputError: a value is not an option of its choice.
        """
        remaining = iter(values)
        ids: list[int] = []
        for piece, options in zip(self.pieces, self._options, strict=True):
            if isinstance(piece, FixedText):
                ids += options[0]
                continue
            value = next(remaining)
            if isinstance(piece, FreeText):
                ids += self.lm.encode(_NOT_IN_FREE_TEXT.sub("'", value))[: piece.limit]
            elif value in piece.options:
                ids += options[list(piece.options).index(value)]
            else:
                raise InputError(f"{value!r} is none of {', '.join(piece.options)}")
        return ids

    def read(self, ids: Sequence[int]) -> list[str]:
        """The values in an answer that keeps to the schema; a character that was cut in two is left out."""
        tokens: dict[int, list[int]] = {
            number: [] for number, piece in enumerate(self.pieces) if not isinstance(piece, FixedText)
        }
        state = self.start()
        for token in ids:
            if state.piece == len(self.pieces):
                break
            before, state = state.piece, self.after(state, token)
            if before in tokens and state.piece == before:
                tokens[before].append(token)
        # Behind a line break, because some tokenizers remove a space at the beginning of a text.
        front = self.lm.encode("\n")
        return [self._value(number, self.lm.decode([*front, *own])[1:]) for number, own in tokens.items()]

    def _value(self, number: int, text: str) -> str:
        piece = self.pieces[number]
        if isinstance(piece, Choice):
            return next((option for option in piece.options if _quote(option) == text), text)
        return _NOT_IN_FREE_TEXT.sub("", text)

    def processor(self) -> SchemaProcessor:
        """A logits processor for one call of `generate` of `transformers`."""
        return SchemaProcessor(self)

    def start(self) -> _State:
        """The state before the first token."""
        return _State()

    def next_tokens(self, state: _State) -> tuple[list[int], bool]:
        """Ids of the tokens that may come next, and whether every token of free text may come too."""
        if state.piece == len(self.pieces):
            return sorted(self.lm.end_ids), False
        piece, done = self.pieces[state.piece], len(state.ids)
        if isinstance(piece, FreeText):
            return [self._following(state)], done < piece.limit
        options = self._options[state.piece]
        ids = {each[done] for each in options if len(each) > done and each[:done] == state.ids}
        if isinstance(piece, Choice) and state.ids in options:
            ids.add(self._following(state))
        return sorted(ids), False

    def after(self, state: _State, token: int) -> _State:
        """The state after one more token."""
        if state.piece == len(self.pieces):
            return state
        piece, options, ids = self.pieces[state.piece], self._options[state.piece], (*state.ids, token)
        if isinstance(piece, FixedText):
            return _State(state.piece + 1) if len(ids) == len(options[0]) else _State(state.piece, ids)
        goes_on = any(option[: len(ids)] == ids for option in options)
        if not goes_on and token == self._following(state):
            return self.after(_State(state.piece + 1), token)
        return _State(state.piece, ids)

    def _following(self, state: _State) -> int:
        """The token that ends a choice or a free text: the first of the fixed text behind it."""
        return self._options[state.piece + 1][0][0]


class SchemaProcessor:
    """A `LogitsProcessor` of `transformers` that allows only tokens that keep to a schema."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._states: list[_State] = []
        self._length = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores `[B, V]` with minus infinity for tokens that may not come next."""
        if not self._states:
            # A prompt of embeddings has no ids; with a prompt of ids, the answer begins behind it.
            self._states, self._length = [self._schema.start()] * len(input_ids), input_ids.shape[1]
        for token_row in input_ids[:, self._length :].T.tolist():
            self._states = [
                self._schema.after(state, token) for state, token in zip(self._states, token_row, strict=True)
            ]
        self._length = input_ids.shape[1]
        masked = torch.full_like(scores, -torch.inf)
        for row, state in enumerate(self._states):
            tokens, free = self._schema.next_tokens(state)
            masked[row, tokens] = scores[row, tokens]
            if free:
                mask = _free_text_mask(self._schema.lm, scores.shape[1]).to(scores.device)
                masked[row] = torch.where(mask, scores[row], masked[row])
        return masked


def _texts(piece: Piece) -> list[str]:
    """The texts that a piece can be; none for free text."""
    if isinstance(piece, FixedText):
        return [piece.text]
    return [_quote(option) for option in piece.options] if isinstance(piece, Choice) else []


def _quote(option: str) -> str:
    """A value as it is written between the quotes of a JSON string."""
    return json.dumps(option, ensure_ascii=False)[1:-1]


_free_text_masks: WeakKeyDictionary[LanguageModel, Tensor] = WeakKeyDictionary()


def _free_text_mask(lm: LanguageModel, width: int) -> Tensor:
    """Which tokens may be part of free text: bool `[width]`; made once for each language model."""
    if lm not in _free_text_masks:
        _free_text_masks[lm] = torch.tensor(list(_may_be_free_text(lm)))
    mask = _free_text_masks[lm][:width]
    # Scores often have columns for more tokens than the tokenizer knows.
    return functional.pad(mask, (0, width - len(mask)))


def _may_be_free_text(lm: LanguageModel) -> Iterator[bool]:
    special = {*lm.tokenizer.all_special_ids, *lm.end_ids}
    front = lm.encode("\n")  # as in `Schema.read`
    texts: list[Any] = lm.tokenizer.batch_decode(
        [[*front, token] for token in range(len(lm.tokenizer))], clean_up_tokenization_spaces=False
    )
    for token, decoded in enumerate(texts):
        text = decoded[1:]
        # A part of a character decodes to U+FFFD and is allowed: with its other parts it becomes one character.
        yield token not in special and text != "" and not _NOT_IN_FREE_TEXT.search(text.replace("\ufffd", ""))
