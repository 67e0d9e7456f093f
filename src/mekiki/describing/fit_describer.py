"""Training of a describer: a projector, and a small language model where none is given.

The language model's answer is trained token by token (cross-entropy); the prompt is not. A given language model stays
frozen, apart from LoRA where that is asked for. A small model from scratch is trained with the projector, on some
answers without a vector, so that it knows the base rates: otherwise the grounding test would only show that a missing
vector is unusual.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mekiki.console import Progress, silent
from mekiki.describing.describer import AnswerTokens, Describer, answer_tokens
from mekiki.describing.language_model import LanguageModel
from mekiki.describing.part_training import OnEpoch, PartSplit, TrainConfig, fit_model, split_parts
from mekiki.describing.projector import PartVectors, Projector
from mekiki.describing.schema import QUESTIONS
from mekiki.describing.texts import PartText, values_of
from mekiki.training.fit import History

LEAST_STEPS = 60
"""Steps of an epoch at least: where the parts are few, an epoch is several passes over them."""

Batch = tuple[list[AnswerTokens], NDArray[np.bool_] | None]
"""Answers, and which of them are trained without a vector (`None`: none)."""


def fit_describer(
    parts: PartVectors,
    texts: Sequence[PartText],
    lm: LanguageModel | None = None,
    *,
    config: TrainConfig | None = None,
    lora: int | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
    on_epoch: OnEpoch | None = None,
) -> tuple[Describer, PartSplit, History]:
    """Train a describer of parts.

    Args:
        parts: vectors of the parts.
        texts: what people wrote about them.
        lm: a language model, which stays frozen unless it is from scratch; `None` makes a small one from the texts.
        config: settings of the training.
        lora: rank of trainable low-rank changes of the language model; `None` for none.
        checkpoint: file of the state after each epoch.
        resume: continue an interrupted training.
        progress: called after each step.
        on_epoch: called with the history's row after each epoch.

    Returns:
        The describer of the best epoch, the split of the parts, and the history: for each epoch the mean training
        `loss` and the mean validation loss of a token `held_out`, nats.

    Raises:
        InputError: too few parts have a text, or the checkpoint is of other settings.
    """
    config = config or TrainConfig()
    split = split_parts(texts, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if lm is None:
            train_rows = set(split.train.tolist())
            questions = [question for each in QUESTIONS.values() for question in each.values()]
            corpus = [
                value
                for text in texts
                if text.part in train_rows
                for value in (text.text, *text.fields.values())
            ]
            lm = LanguageModel.small([*corpus, *questions], seed=config.seed)
        if lora is not None:
            lm.add_lora(lora)
        projector = Projector(parts.rows(split.train), lm.hidden, lm.token_norm).to(lm.device)
        describer = Describer(lm, projector, values_of(texts))
        trainable = TrainableDescriber(describer, texts)
    train, validation = (answer_tokens(describer, texts, rows) for rows in (split.train, split.validation))
    vectors = parts.tensors()
    passes = max(1, -(-LEAST_STEPS * config.batch // len(split.train)))

    def batches(epoch: int) -> tuple[int, Iterable[Batch]]:
        rng = np.random.default_rng((config.seed, epoch))
        describer.lm.model.train(describer.lm.from_scratch)
        several = (_batches(train, config, describer.lm.from_scratch, rng) for _ in range(passes))
        return passes * -(-len(split.train) // config.batch), chain.from_iterable(several)

    def step(batch: Batch) -> tuple[Tensor, int]:
        answers, no_vector = batch
        soft = describer.soft(answers, vectors, no_vector)
        loss = describer.losses(answers, soft).sum() / sum(len(answer.answer) for answer in answers)
        if trainable.guides:
            loss = loss + trainable.auxiliary_loss(soft, answers, no_vector)
        return loss, len(answers)

    def measure() -> dict[str, float]:
        describer.lm.model.eval()
        return {"held_out": mean_loss(describer, validation, vectors)}

    history = fit_model(
        trainable,
        batches,
        step,
        measure,
        config,
        label="training the describer",
        settings={"examples": len(train), "lm": describer.lm.name},
        early_stopping="held_out",
        checkpoint=checkpoint,
        resume=resume,
        progress=progress,
        on_epoch=on_epoch,
    )
    describer.lm.model.eval()
    return describer, split, history


class TrainableDescriber(nn.Module):
    """The trainable weights of a describer: the projector, and all of the language model, its LoRA, or nothing of it.

    During training, a linear auxiliary head for each of `ATTRIBUTES` predicts it from the soft tokens (after Lee, Xie,
    Gallagher, Zhang and Tu, *Deeply-Supervised Nets*, 2015, arXiv 1409.5185): the attributes are a few of a text's
    tokens, and through the language model alone the projector gets their gradient too late.

    Args:
        describer: the describer.
        texts: what is known of the parts.

    Attributes:
        guides: the auxiliary heads by attribute; their name in checkpoints.
    """

    def __init__(self, describer: Describer, texts: Sequence[PartText]) -> None:
        super().__init__()
        self.projector = describer.projector
        if describer.lm.from_scratch:
            self.model = describer.lm.model
        else:
            self.change = nn.ParameterDict(
                {
                    name.replace(".", "/"): parameter
                    for name, parameter in describer.lm.model.named_parameters()
                    if parameter.requires_grad
                }
            )
        width = describer.projector.length * describer.projector.hidden
        self.guides = nn.ModuleDict(
            {name: nn.Linear(width, len(values)) for name, values in describer.values.items()}
        ).to(describer.lm.device)
        self._targets = {
            text.part: [values.index(text.fields[name]) for name, values in describer.values.items()]
            for text in texts
            if text.has_attributes
        }
        self._norm = describer.projector.norm

    def auxiliary_loss(
        self, soft: Tensor, answers: Sequence[AnswerTokens], no_vector: NDArray[np.bool_] | None
    ) -> Tensor:
        """Mean loss of the auxiliary heads, nats: a number."""
        rows = [
            row
            for row, answer in enumerate(answers)
            if answer.part in self._targets and not (no_vector is not None and no_vector[row])
        ]
        if not rows:
            return soft.new_zeros(())
        targets = torch.tensor([self._targets[answers[row].part] for row in rows], device=soft.device)
        flat = soft[rows].flatten(1) / self._norm
        losses = [
            functional.cross_entropy(head(flat), targets[:, i]) for i, head in enumerate(self.guides.values())
        ]
        return torch.stack(losses).mean()


def mean_loss(
    describer: Describer, answers: Sequence[AnswerTokens], vectors: tuple[Tensor, Tensor | None]
) -> float:
    """Mean loss of a token of the answers, nats."""
    losses = describer.answer_losses(answers, vectors)
    return float(losses.sum()) / max(1, sum(len(answer.answer) for answer in answers))


def _batches(
    answers: Sequence[AnswerTokens], config: TrainConfig, from_scratch: bool, rng: np.random.Generator
) -> Iterator[Batch]:
    """Batches of answers of similar length in random order."""
    # One answer of each part in a pass, so that passes differ in the wording and every part counts the same.
    rows_of: dict[int, list[int]] = {}
    for row, answer in enumerate(answers):
        rows_of.setdefault(answer.part, []).append(row)
    chosen = np.array([rows[int(rng.integers(len(rows)))] for rows in rows_of.values()])
    order = rng.permutation(chosen)
    lengths = np.array([len(answer.answer) + len(answer.prompt) for answer in answers])
    # Sorted within stretches, so that there is little padding and no two epochs have the same batches.
    stretch = config.batch * 16
    stretches = (order[start : start + stretch] for start in range(0, len(order), stretch))
    rows = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in stretches])
    batches = [rows[start : start + config.batch] for start in range(0, len(rows), config.batch)]
    for number in rng.permutation(len(batches)):
        batch = batches[number]
        no_vector = rng.random(len(batch)) < config.no_vector if from_scratch else None
        yield [answers[row] for row in batch], no_vector
