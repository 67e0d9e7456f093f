"""`Describer`: a projector and a language model. Vectors of a part in, words out."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from mekiki.describing.answer import ASKS, ATTRIBUTES, FIELDS, WORDS, Text
from mekiki.describing.language_model import LanguageModel
from mekiki.describing.part_vectors import PartVectors
from mekiki.describing.projector import Projector, tensors
from mekiki.describing.schema import Choice, Free, Literal, Schema
from mekiki.errors import InputError, first_line
from mekiki.extras import require
from mekiki.storage.manifest import Manifest, check_format
from mekiki.storage.run_folder import DESCRIBER_FORMAT, DESCRIBER_SETTINGS, LANGUAGE_MODEL, PROJECTOR

LONGEST = 240
"""Tokens of an answer at most."""
FREE_WORDS = 80
"""Tokens of a field in a person's own words at most."""
TOGETHER = 32
"""Parts answered together."""


@dataclass(frozen=True, eq=False)
class Example:
    """One answer to learn.

    Attributes:
        part: row of the vectors.
        prompt: token ids up to where the answer begins.
        blind: the same without room for a vector.
        answer: token ids of the answer, to its end.
    """

    part: int
    prompt: list[int]
    blind: list[int]
    answer: list[int]


class Describer:
    """Says what vectors hold, in words.

    Args:
        lm: the language model.
        projector: from vectors to its soft tokens.
        values: of each of `ATTRIBUTES`, those that it learnt; empty where it learnt no answers in fields.
    """

    def __init__(self, lm: LanguageModel, projector: Projector, values: Mapping[str, Sequence[str]]) -> None:
        self.lm, self.projector = lm, projector
        self.values = {name: list(each) for name, each in values.items()}

    def schema(self) -> Schema:
        """The form of an answer in fields."""
        pieces: list[Literal | Choice | Free] = []
        before = "{"
        for name in FIELDS:
            pieces.append(Literal(f'{before}"{name}": "'))
            values = self.values.get(name)
            pieces.append(Choice(values) if values else Free(FREE_WORDS))
            before = '", '
        pieces.append(Literal('"}'))
        return Schema(pieces, self.lm)

    def soft(
        self,
        examples: Sequence[Example],
        parts: tuple[Tensor, Tensor | None],
        blind: NDArray[np.bool_] | None = None,
    ) -> Tensor:
        """Soft tokens of the parts that answers are about: `[B, length, hidden]`.

        Args:
            examples: the answers.
            parts: vectors of all parts.
            blind: bool `[B]`, which of the answers get zeros in place of their vector.
        """
        rows = torch.tensor([example.part for example in examples])
        whole, places = (None if each is None else each[rows].to(self.lm.device) for each in parts)
        assert whole is not None
        if blind is not None and blind.any():
            gone = torch.from_numpy(blind).to(self.lm.device)
            zero_whole, zero_places = self.projector.nothing(len(examples))
            whole = torch.where(gone[:, None], zero_whole, whole)
            if places is not None and zero_places is not None:
                places = torch.where(gone[:, None, None, None], zero_places, places)
        soft: Tensor = self.projector(whole, places)
        return soft

    def losses(self, examples: Sequence[Example], soft: Tensor | None) -> Tensor:
        """Sum of the loss over the tokens of each answer, nats: `[B]`.

        Args:
            examples: the answers.
            soft: the soft tokens of each, `[B, length, hidden]`; `None` for a prompt without any.
        """
        device = self.lm.device
        prompts = [example.blind if soft is None else example.prompt for example in examples]
        before, mask = self.lm.embed(prompts, soft)
        answers = [torch.tensor(example.answer, device=device) for example in examples]
        ids = pad_sequence(answers, batch_first=True)
        there = pad_sequence([torch.ones_like(answer) for answer in answers], batch_first=True)
        after = self.lm.model.get_input_embeddings()(ids)  # type: ignore[operator]
        logits = self.lm.logits(
            torch.cat([before, after.to(before.dtype)], dim=1),
            torch.cat([mask, there.to(mask.dtype)], dim=1),
            last=ids.shape[1] + 1,
        )[:, :-1]
        each = functional.cross_entropy(logits.transpose(1, 2).float(), ids, reduction="none")
        loss: Tensor = (each * there).sum(dim=1)
        return loss

    def prompt(self, ask: str, *, soft: bool = True) -> list[int]:
        """Token ids of a question, with room for the vector or without."""
        return self.lm.prompt_ids(ask, self.projector.length if soft else 0)

    @torch.inference_mode()
    def prompt_rows(self, parts: PartVectors, ask: str, *, vectors: str = "true") -> tuple[Tensor, Tensor]:
        """Rows that the language model reads, `[B, L, hidden]`, and which of them there are, `[B, L]`."""
        soft = None
        if vectors != "none":
            given = tensors(parts) if vectors == "true" else self.projector.nothing(len(parts.whole))
            whole, places = (None if each is None else each.to(self.lm.device) for each in given)
            soft = self.projector(whole, places)
        prompt = self.prompt(ask, soft=soft is not None)
        rows, mask = self.lm.embed([prompt] * len(parts.whole), soft)
        return rows, mask

    def stream(self, part: PartVectors, ask: str) -> Iterator[str]:
        """An answer in words about one part, piece by piece as it comes.

        Args:
            part: one part.
            ask: the question.
        """
        transformers = require("transformers", extra="describe", purpose="describing parts")
        rows, mask = self.prompt_rows(part, ask)
        streamer = transformers.TextIteratorStreamer(self.lm.tokenizer, skip_special_tokens=True)
        failed: list[BaseException] = []

        def answer() -> None:
            try:
                self._generate(rows, mask, LONGEST, streamer=streamer)
            except BaseException as error:
                failed.append(error)
                streamer.end()

        thread = threading.Thread(target=answer, name="mekiki-describing", daemon=True)
        thread.start()
        yield from (piece for piece in streamer if piece)
        thread.join()
        if failed:
            raise failed[0]

    def reports(
        self, parts: PartVectors, language: str, *, ask: str = "", vectors: str = "true"
    ) -> list[dict[str, str]]:
        """Answers in fields about parts, each valid by the schema: `FIELDS` and what they hold.

        Args:
            parts: those asked about.
            language: of what is asked.
            ask: another question than the one it learnt.
            vectors: `true`; `zeros` for parts of which nothing is said; `none` for a prompt without soft tokens.
        """
        schema = self.schema()
        told: list[dict[str, str]] = []
        for start in range(0, len(parts.whole), TOGETHER):
            block = parts.rows(slice(start, start + TOGETHER))
            rows, mask = self.prompt_rows(block, ask or ASKS[language]["fields"], vectors=vectors)
            ids = self._generate(rows, mask, schema.longest, schema.processor())
            told += [dict(zip(FIELDS, schema.read(row), strict=True)) for row in ids.tolist()]
        return told

    @torch.inference_mode()
    def _generate(
        self, rows: Tensor, mask: Tensor, longest: int, processor: Any = None, streamer: Any = None
    ) -> Tensor:
        """Token ids of the likeliest answers, step by step; `[B, T]`."""
        ids: Tensor = self.lm.model.generate(  # type: ignore[operator]
            inputs_embeds=rows,
            attention_mask=mask,
            max_new_tokens=longest,
            do_sample=False,
            logits_processor=None if processor is None else [processor],
            streamer=streamer,
            pad_token_id=self.lm.pad_id,
            eos_token_id=sorted(self.lm.end_ids),
        )
        return ids

    def save(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Write it into a folder that is there: settings as JSON, weights as safetensors."""
        held = {
            name: value.detach().cpu().contiguous() for name, value in self.projector.state_dict().items()
        }
        save_file(held, folder / PROJECTOR)
        if self.lm.own or self.lm.lora:
            (folder / LANGUAGE_MODEL).mkdir()
            self.lm.save(folder / LANGUAGE_MODEL)
        told = {
            "format": DESCRIBER_FORMAT,
            "lm": {
                "name": self.lm.name,
                "own": self.lm.own,
                "adapter": None if self.lm.adapter is None else str(self.lm.adapter),
                "fingerprint": self.lm.fingerprint,
            },
            "tokens": self.projector.tokens,
            "values": self.values,
        }
        text = json.dumps(told | dict(facts), indent=1, ensure_ascii=False) + "\n"
        (folder / DESCRIBER_SETTINGS).write_text(text, encoding="utf-8")

    @classmethod
    def load(
        cls, folder: Path, *, device: str = "cpu", four_bit: bool = False
    ) -> tuple[Describer, dict[str, Any]]:
        """Read what `save` wrote, and the facts beside it.

        Raises:
            InputError: it cannot be read, or its language model is not what it was.
        """
        path = folder / DESCRIBER_SETTINGS
        try:
            manifest = Manifest.of(folder, fix="`mekiki describe-train` again", quiet=True)
            facts: dict[str, Any] = json.loads(manifest.read(DESCRIBER_SETTINGS))
            check_format(path, facts["format"], DESCRIBER_FORMAT, fix="`mekiki describe-train` again")
            state = load(manifest.read(PROJECTOR))
            manifest.verify("lm/")
            source = str(folder / LANGUAGE_MODEL) if facts["lm"]["own"] else facts["lm"]["name"]
            adapter = facts["lm"]["adapter"]
            lm = LanguageModel.load(
                source, adapter=None if adapter is None else Path(adapter), four_bit=four_bit, device=device
            )
            if not lm.own and (folder / LANGUAGE_MODEL).is_dir():
                lm.add_adapter(folder / LANGUAGE_MODEL)
            if lm.fingerprint != facts["lm"]["fingerprint"]:
                raise InputError(
                    f"{folder}: its language model ({lm.name}) has changed since; `mekiki describe-train` again"
                )
            projector = Projector(_blank(state), lm.hidden, lm.token_norm, facts["tokens"])
            projector.load_state_dict(state)
            values = facts["values"]
        except InputError:
            raise
        except (OSError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise InputError(
                f"{folder}: cannot be read ({first_line(error)}); `mekiki describe-train` makes it anew"
            ) from None
        return cls(lm, projector.to(lm.device).eval(), values), facts


def examples_of(describer: Describer, texts: Sequence[Text], parts: NDArray[np.intp]) -> list[Example]:
    """The answers to learn of these parts: each text as it stands, and in fields where all are known."""
    meant = set(parts.tolist())
    schema = describer.schema() if describer.values else None
    prompts: dict[tuple[str, str], tuple[list[int], list[int]]] = {}

    def example(text: Text, kind: str, answer: list[int]) -> Example:
        key = (text.language, kind)
        if key not in prompts:
            ask = ASKS[text.language][kind]
            prompts[key] = (describer.prompt(ask), describer.prompt(ask, soft=False))
        return Example(text.part, *prompts[key], answer)

    found = []
    for text in texts:
        if text.part not in meant:
            continue
        found.append(example(text, "text", [*describer.lm.encode(text.text), describer.lm.end_id]))
        if schema is not None and text.whole:
            words = [text.fields.get(name, "") for name in WORDS]
            values = [*(text.fields[name] for name in ATTRIBUTES), *words]
            found.append(example(text, "fields", [*schema.encode(values), describer.lm.end_id]))
    return found


def _blank(state: Mapping[str, Tensor]) -> PartVectors:
    """Parts of the shapes that a projector with this state takes."""
    whole = np.zeros((1, len(state["mean"])), np.float32)
    if "grid_shape" not in state:
        return PartVectors(whole, None)
    side = state["grid_shape"].tolist()
    return PartVectors(whole, np.zeros((1, *side, len(state["place_mean"])), np.float32))
