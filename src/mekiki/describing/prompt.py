"""A question as token ids, with places for soft tokens, in the form that a language model was trained to answer.

What stands in the question and in the system message is text and nothing else: a note of a past case that holds the
words `<|im_end|>` ends no turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from mekiki.errors import InputError

SOFT = -1
"""Stands in a prompt's token ids at every place that a soft token takes."""

# Characters for private use, which no template and hardly a text has.
_VECTORS, _ASK, _SYSTEM, _ANSWER = (f"\ue000mekiki-{name}\ue001" for name in ("v", "q", "s", "a"))
_MARKS = re.compile(f"({_VECTORS}|{_ASK}|{_SYSTEM}|{_ANSWER})")


def encoded(tokenizer: Any, text: str, *, special: bool = False) -> list[int]:
    """Token ids of a piece of text from the middle of a longer one: nothing is put in front of it or behind.

    Args:
        tokenizer: of `transformers`.
        text: the piece.
        special: whether names of special tokens in it stand for those tokens.
    """
    ids = _ids(tokenizer, text, special)
    if not ids or not str(tokenizer.convert_ids_to_tokens(ids[:1])[0]).startswith("▁"):
        return ids
    # Tokenizers after SentencePiece put a space in front of all they get, so a line break bears it here.
    front = _ids(tokenizer, "\n", False)
    longer = _ids(tokenizer, f"\n{text}", special)
    return longer[len(front) :] if longer[: len(front)] == front else ids


class ChatPrompt:
    """A question in a model's chat template, with places for soft tokens.

    In a model with eyes they stand where the tokens of an image would; in one without, in front of the question. A
    system message stands in front of the question where the template knows none.

    Args:
        tokenizer: with its template; without one, the question stands between line breaks.
        name: of the model, for messages.
        image: the token that stands for a place of an image, in a model with eyes.
        around: the tokens that begin and end an image, where the template writes only the first of them.

    Raises:
        InputError: when it is called, and the template cannot be filled in.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        name: str = "the language model",
        image: int | None = None,
        around: tuple[int, int] | None = None,
    ) -> None:
        self._tokenizer, self._name, self._image, self._around = tokenizer, name, image, around
        self._forms: dict[tuple[bool, bool], str] = {}

    def __call__(self, ask: str, soft: int, system: str) -> list[int]:
        """Question, number of soft tokens and system message → token ids."""
        key = (soft > 0, bool(system))
        if key not in self._forms:
            self._forms[key] = self._form(*key)
        said = {_ASK: ask, _SYSTEM: system}
        whole = self._filled(self._forms[key], said)
        ids = [token for token in whole if token != SOFT]
        if len(ids) == len(whole):
            return self._seen(ids, soft) if soft else ids
        place = whole.index(SOFT)
        return [*whole[:place], *[SOFT] * soft, *whole[place + 1 :]]

    def turn_end(self) -> int | None:
        """The special token by which the template ends an answer, if it has one."""
        if self._tokenizer.chat_template is None:
            return None
        for content in (_ANSWER, [{"type": "text", "text": _ANSWER}]):
            asked = _ASK if isinstance(content, str) else [{"type": "text", "text": _ASK}]
            text = self._rendered(
                [{"role": "user", "content": asked}, {"role": "assistant", "content": content}], asks=False
            )
            if text is not None and text.count(_ANSWER) == 1:
                behind = _ids(self._tokenizer, text.partition(_ANSWER)[2].lstrip(), True)
                known = set(self._tokenizer.all_special_ids) | set(self._tokenizer.added_tokens_decoder)
                return behind[0] if behind and behind[0] in known else None
        return None

    def _form(self, soft: bool, system: bool) -> str:
        """The template filled in with marks for what is said and for the soft tokens."""
        if self._tokenizer.chat_template is None:
            begin = "" if self._tokenizer.bos_token is None else self._tokenizer.bos_token
            return f"{begin}{_VECTORS if soft else ''}" + (f"\n{_SYSTEM}" if system else "") + f"\n{_ASK}\n"
        lead = f"{_VECTORS}\n" if soft else ""
        contents: list[Any] = [f"{lead}{_ASK}", [{"type": "text", "text": f"{lead}{_ASK}"}]]
        if soft and self._image is not None:
            contents = [[{"type": "image"}, {"type": "text", "text": _ASK}], *contents]
        for content in contents:
            marks = (
                {_ASK} | ({_SYSTEM} if system else set()) | ({_VECTORS} if _has(content, _VECTORS) else set())
            )
            for messages in _conversations(content, system):
                text = self._rendered(messages)
                if text is None or any(text.count(mark) != 1 for mark in marks):
                    continue
                if soft and _VECTORS not in marks and not self._places(_ids(self._tokenizer, text, True)):
                    continue
                return text
        raise InputError(
            f"language model {self._name}: its chat template cannot be filled in with a question"
            f"{' and a system message' if system else ''}; give a model with another template"
        )

    def _rendered(self, messages: Sequence[Any], *, asks: bool = True) -> str | None:
        try:
            # Models that may think first are asked not to: an answer begins with its first token.
            text: str = self._tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=asks, enable_thinking=False
            )
        except (
            Exception
        ):  # a template raises what it likes where it does not know a role or a kind of content
            return None
        return text

    def _filled(self, form: str, said: dict[str, str]) -> list[int]:
        """Token ids of a form, `SOFT` once where it has the mark for vectors."""
        plain = all(
            _ids(self._tokenizer, text, True) == _ids(self._tokenizer, text, False) for text in said.values()
        )
        if plain:  # tokens may then reach over from the template into what is said, as in training
            for mark, text in said.items():
                form = form.replace(mark, text)
        ids: list[int] = []
        for piece in _MARKS.split(form) if not plain else re.split(f"({_VECTORS})", form):
            if piece == _VECTORS:
                ids.append(SOFT)
            elif not plain and piece in said:
                ids += encoded(self._tokenizer, said[piece])
            elif piece:
                ids += (
                    encoded(self._tokenizer, piece, special=True)
                    if ids
                    else _ids(self._tokenizer, piece, True)
                )
        return ids

    def _places(self, ids: Sequence[int]) -> tuple[int, int] | None:
        """Where tokens of the first image stand: from, to."""
        looked_for = self._image
        if looked_for not in ids and self._around is not None:
            looked_for = self._around[0]
        if looked_for is None or looked_for not in ids:
            return None
        first = list(ids).index(looked_for)
        last = next((place for place in range(first, len(ids)) if ids[place] != looked_for), len(ids))
        return first, last

    def _seen(self, ids: list[int], soft: int) -> list[int]:
        places = self._places(ids)
        assert places is not None  # the form was chosen by it
        there = [SOFT] * soft
        if ids[places[0]] != self._image and self._around is not None:
            there = [self._around[0], *there, self._around[1]]
        return [*ids[: places[0]], *there, *ids[places[1] :]]


def _conversations(content: Any, system: bool) -> Iterable[list[dict[str, Any]]]:
    """What is said, in the ways that templates know: with a system message as text, as items, or in the question."""
    asked = {"role": "user", "content": content}
    if not system:
        yield [asked]
        return
    yield [{"role": "system", "content": _SYSTEM}, asked]
    yield [{"role": "system", "content": [{"type": "text", "text": _SYSTEM}]}, asked]
    merged = f"{_SYSTEM}\n\n{_ASK}"
    if isinstance(content, str):
        yield [{"role": "user", "content": content.replace(_ASK, merged)}]
    else:
        items = [
            item | {"text": item["text"].replace(_ASK, merged)} if "text" in item else item
            for item in content
        ]
        yield [{"role": "user", "content": items}]


def _has(content: Any, mark: str) -> bool:
    return (
        mark in content if isinstance(content, str) else any(mark in item.get("text", "") for item in content)
    )


def _ids(tokenizer: Any, text: str, special: bool) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=not special))
