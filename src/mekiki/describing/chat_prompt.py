"""A question as token ids in a model's chat template, with places for soft tokens.

The question is treated as plain text: a note of a past case that contains the words `<|im_end|>` does not end a turn.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mekiki.errors import InputError

SOFT = -1
"""Marks the place of a soft token in a prompt's token ids."""

# Characters for private use, which no template contains and hardly any text.
_VECTORS, _QUESTION, _ANSWER = (f"\ue000mekiki-{name}\ue001" for name in ("v", "q", "a"))


def encode_piece(tokenizer: Any, text: str, *, special: bool = False) -> list[int]:
    """Token ids of a piece from the middle of a text: nothing is added in front of it or behind it.

    Args:
        tokenizer: of `transformers`.
        text: the piece.
        special: whether names of special tokens in it stand for those tokens.
    """
    ids = _ids(tokenizer, text, special=special)
    if not ids or not str(tokenizer.convert_ids_to_tokens(ids[:1])[0]).startswith("▁"):
        return ids
    # Tokenizers like SentencePiece put a space in front of every text, so a line break takes it here.
    front = _ids(tokenizer, "\n", special=False)
    longer = _ids(tokenizer, f"\n{text}", special=special)
    return longer[len(front) :] if longer[: len(front)] == front else ids


class ChatPrompt:
    """A question in a model's chat template, with places for soft tokens.

    In a vision-language model they take the places of an image's tokens; in a text model they stand in front of the
    question.

    Args:
        tokenizer: with its template; without one, the question stands between line breaks.
        name: name of the model, for messages.
        image: the token that stands for a place of an image, in a vision-language model.
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
        self._forms: dict[bool, str] = {}

    def __call__(self, question: str, soft: int) -> list[int]:
        """Question and number of soft tokens → token ids."""
        if (soft > 0) not in self._forms:
            self._forms[soft > 0] = self._form(soft > 0)
        ids = self._fill(self._forms[soft > 0], question)
        if SOFT in ids:
            place = ids.index(SOFT)
            return [*ids[:place], *[SOFT] * soft, *ids[place + 1 :]]
        return self._replace_image(ids, soft) if soft else ids

    def turn_end(self) -> int | None:
        """The special token by which the template ends an answer, if it has one."""
        if self._tokenizer.chat_template is None:
            return None
        for content in (_ANSWER, _items(_ANSWER)):
            question = _QUESTION if isinstance(content, str) else _items(_QUESTION)
            text = self._render(
                [{"role": "user", "content": question}, {"role": "assistant", "content": content}],
                for_answer=False,
            )
            if text is not None and text.count(_ANSWER) == 1:
                ids = self._ids(text.partition(_ANSWER)[2].lstrip())
                special = set(self._tokenizer.all_special_ids) | set(self._tokenizer.added_tokens_decoder)
                return ids[0] if ids and ids[0] in special else None
        return None

    def _form(self, soft: bool) -> str:
        """The template filled in with marks for the question and the soft tokens."""
        text = f"{_VECTORS}\n{_QUESTION}" if soft else _QUESTION
        if self._tokenizer.chat_template is None:
            return f"{self._tokenizer.bos_token or ''}{'' if soft else chr(10)}{text}\n"
        contents: list[Any] = [text, _items(text)]
        if soft and self._image is not None:
            contents = [[{"type": "image"}, *_items(_QUESTION)], *contents]
        for content in contents:
            form = self._render([{"role": "user", "content": content}])
            if form is None or form.count(_QUESTION) != 1:
                continue
            if not soft or form.count(_VECTORS) == 1 or self._image_places(self._ids(form)):
                return form
        raise InputError(
            f"language model {self._name}: its chat template cannot be filled in with a question; give a model with "
            "another template"
        )

    def _render(self, messages: Sequence[Any], *, for_answer: bool = True) -> str | None:
        try:
            # Without thinking first, so that the answer begins with its first token.
            text: str = self._tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=for_answer, enable_thinking=False
            )
        except Exception:  # a template may raise anything for what it does not know
            return None
        return text

    def _fill(self, form: str, question: str) -> list[int]:
        """Token ids of a form, with `SOFT` once where it has the mark for vectors."""
        plain = self._ids(question) == _ids(self._tokenizer, question, special=False)
        if plain:  # without special tokens, so tokens may span the template and the question, as in training
            form = form.replace(_QUESTION, question)
        ids: list[int] = []
        for piece in re.split(f"({_VECTORS})" if plain else f"({_VECTORS}|{_QUESTION})", form):
            if piece == _VECTORS:
                ids.append(SOFT)
            elif piece == _QUESTION:
                ids += encode_piece(self._tokenizer, question)
            elif piece:
                ids += encode_piece(self._tokenizer, piece, special=True) if ids else self._ids(piece)
        return ids

    def _ids(self, text: str) -> list[int]:
        return _ids(self._tokenizer, text, special=True)

    def _image_places(self, ids: Sequence[int]) -> tuple[int, int] | None:
        """Where the tokens of the first image begin and end."""
        token = self._image
        if token not in ids and self._around is not None:
            token = self._around[0]
        if token is None or token not in ids:
            return None
        first = list(ids).index(token)
        last = next((place for place in range(first, len(ids)) if ids[place] != token), len(ids))
        return first, last

    def _replace_image(self, ids: list[int], soft: int) -> list[int]:
        places = self._image_places(ids)
        assert places is not None  # `_form` takes no other form
        tokens = [SOFT] * soft
        if ids[places[0]] != self._image and self._around is not None:
            tokens = [self._around[0], *tokens, self._around[1]]
        return [*ids[: places[0]], *tokens, *ids[places[1] :]]


def _items(text: str) -> list[dict[str, str]]:
    """A text in the form of templates that take a list of contents."""
    return [{"type": "text", "text": text}]


def _ids(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=not special))
