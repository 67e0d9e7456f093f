"""Answers of a fixed form: what a language model may say next is narrowed to what the form allows.

A form is a row of pieces: text that stands as it is, a choice among a few values, and free text up to the next piece.
Each piece is a run of tokens of its own, so that training sees exactly the tokens that decoding later forces, and a
form of JSON around these pieces is valid whatever the model would have liked to say (after Willard and Louf, *Efficient
Guided Generation for Large Language Models*, 2023, for the simplest of grammars).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional

from mekiki.describing.language_model import LanguageModel
from mekiki.errors import InputError

_UNQUOTED = re.compile(r'["\\\x00-\x1f\x7f\u2028\u2029\ufffd]')
"""What free text never holds, because JSON, or a line, would end there."""


@dataclass(frozen=True)
class Literal:
    """Text that stands as it is."""

    text: str


@dataclass(frozen=True)
class Choice:
    """One of a few values, each written as in a string of JSON."""

    options: Sequence[str]


@dataclass(frozen=True)
class Free:
    """Any text without quotes, backslashes and control characters, of at most so many tokens."""

    limit: int


Piece = Literal | Choice | Free


@dataclass
class _Node:
    """A place in the tree of a choice's tokens."""

    children: dict[int, _Node] = field(default_factory=dict)
    whole: bool = False


@dataclass(frozen=True)
class _State:
    """Where an answer is: in which piece, and how far.

    Attributes:
        piece: its number; that of the pieces is the end.
        done: tokens of it.
        node: of a choice.
    """

    piece: int = 0
    done: int = 0
    node: _Node | None = None


class Schema:
    """A form of answers, in the tokens of a language model.

    Args:
        pieces: in order; the last one, and the one behind each choice and each free text, is literal.
        lm: whose tokens.

    Attributes:
        longest: tokens that an answer has at most.

    Raises:
        InputError: a choice is empty, or no literal piece follows it.

    Example:
        >>> lm = LanguageModel.small(["crack pit oil"], vocabulary=270, layers=1, width=32)
        >>> schema = Schema([Literal('{"defect": "'), Choice(["crack", "pit"]), Literal('"}')], lm)
        >>> lm.decode(schema.encode(["pit"])), schema.read(schema.encode(["pit"]))
        ('{"defect": "pit"}', ['pit'])
    """

    def __init__(self, pieces: Sequence[Piece], lm: LanguageModel) -> None:
        self.pieces, self._lm = list(pieces), lm
        for piece, behind in zip(self.pieces, [*self.pieces[1:], None], strict=True):
            if not isinstance(piece, Literal) and not isinstance(behind, Literal):
                raise InputError("a form must have literal text behind each choice and each free text")
            if isinstance(piece, Choice) and not (piece.options and all(piece.options)):
                raise InputError("a form has a choice among nothing, or among empty values")
        self._tokens = [lm.encode(piece.text) if isinstance(piece, Literal) else [] for piece in self.pieces]
        self._trees = [self._tree(piece) if isinstance(piece, Choice) else _Node() for piece in self.pieces]
        self.longest = 1 + sum(
            piece.limit
            if isinstance(piece, Free)
            else max(len(lm.encode(_written(option))) for option in piece.options)
            if isinstance(piece, Choice)
            else len(tokens)
            for piece, tokens in zip(self.pieces, self._tokens, strict=True)
        )

    def encode(self, values: Sequence[str]) -> list[int]:
        """The tokens of an answer, without its end.

        Args:
            values: of the choices and the free texts, in order. What free text cannot hold is replaced, and what is too
                long is cut.

        Raises:
            InputError: a value is none of its choice's.
        """
        left = iter(values)
        ids: list[int] = []
        for piece, tokens in zip(self.pieces, self._tokens, strict=True):
            if isinstance(piece, Literal):
                ids += tokens
                continue
            value = next(left)
            if isinstance(piece, Free):
                ids += self._lm.encode(_UNQUOTED.sub("'", value))[: piece.limit]
            elif value in piece.options:
                ids += self._lm.encode(_written(value))
            else:
                raise InputError(f"{value!r} is none of {', '.join(piece.options)}")
        return ids

    def read(self, ids: Sequence[int]) -> list[str]:
        """The values of an answer that keeps to the form; a character that was cut in two is left out."""
        found: dict[int, list[int]] = {
            number: [] for number, piece in enumerate(self.pieces) if not isinstance(piece, Literal)
        }
        state = self.start()
        for token in ids:
            if state.piece == len(self.pieces):
                break
            before, state = state.piece, self.after(state, token)
            if before in found and state.piece == before:
                found[before].append(token)
        # Behind a line break, because some tokenizers take away a space that a text begins with.
        front = self._lm.encode("\n")
        return [
            self._value(number, self._lm.decode([*front, *tokens])[1:]) for number, tokens in found.items()
        ]

    def _value(self, number: int, text: str) -> str:
        piece = self.pieces[number]
        if isinstance(piece, Choice):
            return next((option for option in piece.options if _written(option) == text), text)
        return _UNQUOTED.sub("", text)

    def processor(self) -> SchemaProcessor:
        """What `generate` of `transformers` takes to keep to the form; good for one call."""
        return SchemaProcessor(self, self._lm)

    def start(self) -> _State:
        """Where every answer begins."""
        return self._entered(0)

    def allowed(self, state: _State) -> tuple[list[int], bool]:
        """Tokens that may come next, and whether any token of free text may too."""
        if state.piece == len(self.pieces):
            return sorted(self._lm.end_ids), False
        piece = self.pieces[state.piece]
        if isinstance(piece, Literal):
            return [self._tokens[state.piece][state.done]], False
        behind = self._tokens[state.piece + 1][0]
        if isinstance(piece, Free):
            return [behind], state.done < piece.limit
        assert state.node is not None
        return [*state.node.children, *([behind] if state.node.whole else [])], False

    def after(self, state: _State, token: int) -> _State:
        """Where an answer is after one more token."""
        if state.piece == len(self.pieces):
            return state
        piece = self.pieces[state.piece]
        if isinstance(piece, Literal):
            done = state.done + 1
            ended = done == len(self._tokens[state.piece])
            return self._entered(state.piece + 1) if ended else _State(state.piece, done)
        if state.node is not None and token in state.node.children:
            return _State(state.piece, state.done + 1, state.node.children[token])
        if token == self._tokens[state.piece + 1][0]:
            return self.after(_State(state.piece + 1), token)
        return _State(state.piece, state.done + 1, state.node)

    def _entered(self, number: int) -> _State:
        return _State(number, 0, self._trees[number] if number < len(self.pieces) else None)

    def _tree(self, choice: Choice) -> _Node:
        root = _Node()
        for option in choice.options:
            node = root
            for token in self._lm.encode(_written(option)):
                node = node.children.setdefault(token, _Node())
            node.whole = True
        return root


class SchemaProcessor:
    """Narrows the scores of the next token to what a form allows; a `LogitsProcessor` of `transformers`.

    Args:
        schema: the form.
        lm: whose tokens.
    """

    def __init__(self, schema: Schema, lm: LanguageModel) -> None:
        self._schema, self._lm = schema, lm
        self._states: list[_State] = []
        self._seen = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores `[B, V]` with minus infinity for what may not come next."""
        if not self._states:
            # With a prompt of embeddings there is none of ids; with one of ids, the answer begins behind it.
            self._states, self._seen = [self._schema.start()] * len(input_ids), input_ids.shape[1]
        for token_row in input_ids[:, self._seen :].T.tolist():
            self._states = [
                self._schema.after(state, token) for state, token in zip(self._states, token_row, strict=True)
            ]
        self._seen = input_ids.shape[1]
        narrowed = torch.full_like(scores, -torch.inf)
        for row, state in enumerate(self._states):
            tokens, free = self._schema.allowed(state)
            narrowed[row, tokens] = scores[row, tokens]
            if free:
                mask = _free_tokens(self._lm, scores.shape[1]).to(scores.device)
                narrowed[row] = torch.where(mask, scores[row], narrowed[row])
        return narrowed


def _written(option: str) -> str:
    """A value as it stands between the quotes of a string of JSON."""
    return json.dumps(option, ensure_ascii=False)[1:-1]


_free: WeakKeyDictionary[LanguageModel, Tensor] = WeakKeyDictionary()


def _free_tokens(lm: LanguageModel, width: int) -> Tensor:
    """Which tokens may stand in free text: bool `[width]`; looked at once for a language model."""
    if lm not in _free:
        _free[lm] = torch.tensor(list(_may_stand(lm)))
    known = _free[lm][:width]
    # Scores often have room for more tokens than there are.
    return functional.pad(known, (0, width - len(known)))


def _may_stand(lm: LanguageModel) -> Iterator[bool]:
    special = {*lm.tokenizer.all_special_ids, *lm.end_ids}
    front = lm.encode("\n")  # as in `read`
    texts: list[Any] = lm.tokenizer.batch_decode(
        [[*front, token] for token in range(len(lm.tokenizer))], clean_up_tokenization_spaces=False
    )
    for token, behind in enumerate(texts):
        text = behind[1:]
        # A part of a character shows as U+FFFD here and may stand: with its other parts it is one.
        yield token not in special and text != "" and not _UNQUOTED.search(text.replace("\ufffd", ""))
