"""`Describer`: a projector and a language model, which describe parts from their vectors."""

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

from mekiki.describing.language_model import LanguageModel
from mekiki.describing.projector import PartVectors, Projector
from mekiki.describing.schema import (
    FIELDS,
    QUESTIONS,
    Choice,
    FixedText,
    FreeText,
    Piece,
    Schema,
)
from mekiki.describing.texts import PartText
from mekiki.errors import InputError, first_line
from mekiki.extras import require
from mekiki.storage.manifest import Manifest, check_format
from mekiki.storage.run_folder import DESCRIBER_FORMAT, DESCRIBER_SETTINGS, LANGUAGE_MODEL, PROJECTOR

LONGEST = 240
"""Maximum number of tokens of an answer in words."""
FREE_WORDS = 80
"""Maximum number of tokens of a field in free words."""
BATCH = 32
"""Parts that are described together."""


@dataclass(frozen=True, eq=False)
class AnswerTokens:
    """One training answer.

    Attributes:
        part: row of the part among the vectors.
        prompt: token ids up to the answer.
        no_vector_prompt: the same without places for soft tokens.
        answer: token ids of the answer, with its end.
    """

    part: int
    prompt: list[int]
    no_vector_prompt: list[int]
    answer: list[int]


class Describer:
    """Describes parts from their vectors, in words or in fields.

    Args:
        lm: the language model.
        projector: from vectors to its soft tokens.
        values: the values of each of `ATTRIBUTES` in the training texts; empty if they had no fields.
    """

    def __init__(self, lm: LanguageModel, projector: Projector, values: Mapping[str, Sequence[str]]) -> None:
        self.lm, self.projector = lm, projector
        self.values = {name: list(each) for name, each in values.items()}

    def schema(self) -> Schema:
        """The form of an answer in fields."""
        pieces: list[Piece] = []
        before = "{"
        for name in FIELDS:
            values = self.values.get(name)
            pieces += [FixedText(f'{before}"{name}": "'), Choice(values) if values else FreeText(FREE_WORDS)]
            before = '", '
        return Schema([*pieces, FixedText('"}')], self.lm)

    def soft(
        self,
        answers: Sequence[AnswerTokens],
        parts: tuple[Tensor, Tensor | None],
        no_vector: NDArray[np.bool_] | None = None,
    ) -> Tensor:
        """Soft tokens for training answers: `[B, length, hidden]`.

        Args:
            answers: the answers.
            parts: vectors of all parts.
            no_vector: bool `[B]`, which of the answers get zeros in place of their vector.
        """
        rows = torch.tensor([answer.part for answer in answers])
        whole, places = (None if each is None else each[rows].to(self.lm.device) for each in parts)
        assert whole is not None
        if no_vector is not None and no_vector.any():
            mask = torch.from_numpy(no_vector).to(self.lm.device)
            mean_whole, mean_places = self.projector.mean_parts(len(answers))
            whole = torch.where(mask[:, None], mean_whole, whole)
            if places is not None and mean_places is not None:
                places = torch.where(mask[:, None, None, None], mean_places, places)
        soft: Tensor = self.projector(whole, places)
        return soft

    def losses(self, answers: Sequence[AnswerTokens], soft: Tensor | None) -> Tensor:
        """Cross-entropy summed over the tokens of each answer, nats: `[B]`.

        Args:
            answers: the answers.
            soft: their soft tokens, `[B, length, hidden]`; `None` for no-vector prompts.
        """
        device = self.lm.device
        prompts = [answer.no_vector_prompt if soft is None else answer.prompt for answer in answers]
        before, mask = self.lm.embed(prompts, soft)
        targets = [torch.tensor(answer.answer, device=device) for answer in answers]
        ids = pad_sequence(targets, batch_first=True)
        present = pad_sequence([torch.ones_like(target) for target in targets], batch_first=True)
        logits = self.lm.logits(
            torch.cat([before, self.lm.token_embeddings(ids).to(before.dtype)], dim=1),
            torch.cat([mask, present.to(mask.dtype)], dim=1),
            last=ids.shape[1] + 1,
        )[:, :-1]
        losses = functional.cross_entropy(logits.transpose(1, 2).float(), ids, reduction="none")
        loss: Tensor = (losses * present).sum(dim=1)
        return loss

    @torch.inference_mode()
    def answer_losses(
        self,
        answers: Sequence[AnswerTokens],
        parts: tuple[Tensor, Tensor | None],
        *,
        vectors: str = "true",
    ) -> NDArray[np.float64]:
        """The same for any number of answers, `[N]`, without gradient; for `vectors` see `answer_fields`."""
        losses = []
        for start in range(0, len(answers), BATCH):
            batch = answers[start : start + BATCH]
            no_vector = np.ones(len(batch), np.bool_) if vectors == "zeros" else None
            soft = None if vectors == "none" else self.soft(batch, parts, no_vector)
            losses.append(self.losses(batch, soft).double().cpu().numpy())
        return np.concatenate(losses) if losses else np.zeros(0)

    def prompt(self, question: str, *, soft: bool = True) -> list[int]:
        """Token ids of a question, with or without places for the soft tokens."""
        return self.lm.prompt_ids(question, self.projector.length if soft else 0)

    @torch.inference_mode()
    def prompt_embeddings(
        self, parts: PartVectors, question: str, *, vectors: str = "true"
    ) -> tuple[Tensor, Tensor]:
        """Embeddings of the prompts about parts, `[B, L, hidden]`, and their attention mask `[B, L]`."""
        soft = None
        if vectors != "none":
            source = self.projector.mean_parts(len(parts.whole)) if vectors == "zeros" else parts.tensors()
            whole, places = (None if each is None else each.to(self.lm.device) for each in source)
            soft = self.projector(whole, places)
        prompt = self.prompt(question, soft=soft is not None)
        return self.lm.embed([prompt] * len(parts.whole), soft)

    def stream(self, part: PartVectors, question: str) -> Iterator[str]:
        """An answer in words about one part, in pieces as they are generated."""
        transformers = require("transformers", extra="describe", purpose="describing parts")
        rows, mask = self.prompt_embeddings(part, question)
        streamer = transformers.TextIteratorStreamer(self.lm.tokenizer, skip_special_tokens=True)
        errors: list[BaseException] = []

        def generate() -> None:
            try:
                self._generate(rows, mask, LONGEST, streamer=streamer)
            except BaseException as error:
                errors.append(error)
                streamer.end()

        thread = threading.Thread(target=generate, name="mekiki-describing", daemon=True)
        thread.start()
        yield from (piece for piece in streamer if piece)
        thread.join()
        if errors:
            raise errors[0]

    def answer_fields(
        self, parts: PartVectors, language: str, *, question: str = "", vectors: str = "true"
    ) -> list[dict[str, str]]:
        """An answer in fields about each part, valid by the schema: the names of `FIELDS` and their values.

        Args:
            parts: the parts.
            language: language of the question.
            question: another question than that of the training.
            vectors: `true`; `zeros` for the mean vector; `none` for a no-vector prompt.
        """
        schema = self.schema()
        question = question or QUESTIONS[language]["fields"]
        answers: list[dict[str, str]] = []
        for start in range(0, len(parts.whole), BATCH):
            rows, mask = self.prompt_embeddings(
                parts.rows(slice(start, start + BATCH)), question, vectors=vectors
            )
            ids = self._generate(rows, mask, schema.longest, schema.processor())
            answers += [dict(zip(FIELDS, schema.read(row), strict=True)) for row in ids.tolist()]
        return answers

    @torch.inference_mode()
    def _generate(
        self, rows: Tensor, mask: Tensor, longest: int, processor: Any = None, streamer: Any = None
    ) -> Tensor:
        """Token ids of the answers by greedy decoding, `[B, T]`."""
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

    def save(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        """Write it into an existing folder: settings as JSON, weights as safetensors."""
        weights = {
            name: value.detach().cpu().contiguous() for name, value in self.projector.state_dict().items()
        }
        save_file(weights, folder / PROJECTOR)
        if self.lm.from_scratch or self.lm.lora:
            (folder / LANGUAGE_MODEL).mkdir()
            self.lm.save(folder / LANGUAGE_MODEL)
        content = {
            "format": DESCRIBER_FORMAT,
            "lm": {
                "name": self.lm.name,
                "own": self.lm.from_scratch,
                "adapter": None if self.lm.adapter is None else str(self.lm.adapter),
                "fingerprint": self.lm.fingerprint,
            },
            "tokens": self.projector.tokens,
            "values": self.values,
        }
        text = json.dumps(content | dict(metadata), indent=1, ensure_ascii=False) + "\n"
        (folder / DESCRIBER_SETTINGS).write_text(text, encoding="utf-8")

    @classmethod
    def load(
        cls, folder: Path, *, device: str = "cpu", four_bit: bool = False
    ) -> tuple[Describer, dict[str, Any]]:
        """Read what `save` wrote: the describer and its metadata.

        Raises:
            InputError: the folder cannot be read, or the language model has changed.
        """
        path = folder / DESCRIBER_SETTINGS
        try:
            manifest = Manifest.of(folder, fix="`mekiki describe-train` again", quiet=True)
            metadata: dict[str, Any] = json.loads(manifest.read(DESCRIBER_SETTINGS))
            check_format(path, metadata["format"], DESCRIBER_FORMAT, fix="`mekiki describe-train` again")
            state = load(manifest.read(PROJECTOR))
            manifest.verify(f"{LANGUAGE_MODEL}/")
            source = str(folder / LANGUAGE_MODEL) if metadata["lm"]["own"] else metadata["lm"]["name"]
            adapter = metadata["lm"]["adapter"]
            lm = LanguageModel.load(
                source, adapter=None if adapter is None else Path(adapter), four_bit=four_bit, device=device
            )
            if not lm.from_scratch and (folder / LANGUAGE_MODEL).is_dir():
                lm.add_adapter(folder / LANGUAGE_MODEL)
            if lm.fingerprint != metadata["lm"]["fingerprint"]:
                raise InputError(
                    f"{folder}: its language model ({lm.name}) has changed since; `mekiki describe-train` again"
                )
            projector = Projector(_blank_parts(state), lm.hidden, lm.token_norm, metadata["tokens"])
            projector.load_state_dict(state)
            values = metadata["values"]
        except InputError:
            raise
        except (OSError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise InputError(
                f"{folder}: cannot be read ({first_line(error)}); `mekiki describe-train` makes it again"
            ) from None
        return cls(lm, projector.to(lm.device).eval(), values), metadata


def answer_tokens(
    describer: Describer, texts: Sequence[PartText], parts: NDArray[np.intp]
) -> list[AnswerTokens]:
    """The training answers of these parts: each text, and the answer in fields where all attributes are known."""
    chosen = set(parts.tolist())
    schema = describer.schema() if describer.values else None
    prompts = {
        (language, kind): (describer.prompt(question), describer.prompt(question, soft=False))
        for language, questions in QUESTIONS.items()
        for kind, question in questions.items()
    }
    answers = []
    for text in texts:
        if text.part not in chosen:
            continue
        ids = [*describer.lm.encode(text.text), describer.lm.end_id]
        answers.append(AnswerTokens(text.part, *prompts[text.language, "text"], ids))
        if schema is not None and text.has_attributes:
            values = [text.fields.get(name, "") for name in FIELDS]
            ids = [*schema.encode(values), describer.lm.end_id]
            answers.append(AnswerTokens(text.part, *prompts[text.language, "fields"], ids))
    return answers


def _blank_parts(state: Mapping[str, Tensor]) -> PartVectors:
    """Vectors of the shapes that a projector with this state takes."""
    whole = np.zeros((1, len(state["mean"])), np.float32)
    if "grid_shape" not in state:
        return PartVectors(whole, None)
    side = state["grid_shape"].tolist()
    return PartVectors(whole, np.zeros((1, *side, len(state["place_mean"])), np.float32))
