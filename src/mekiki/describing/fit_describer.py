"""Learning to describe: a projector, and where no language model is at hand a small one of one's own.

They learn from vectors of parts and what people wrote of them. The language model's answer is learnt token by token
(cross-entropy), the prompt is not. A language model that was given stays frozen, but for LoRA where that is asked
for. One of one's own learns with the projector, and now and then without a vector, so that it knows what is likely
when nothing is known: else "the vector helps" would only mean that its absence is strange.

Parts, not texts, are dealt: eight tenths teach, one tenth says when to stop, and one tenth, which had no part in
either, is for the proof.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mekiki.console import Progress, silent
from mekiki.describing.answer import ASKS, Text, values_of
from mekiki.describing.describer import Describer, Example, examples_of
from mekiki.describing.language_model import LanguageModel
from mekiki.describing.part_vectors import PartVectors
from mekiki.describing.projector import Projector, tensors
from mekiki.errors import InputError
from mekiki.training.callbacks import AfterEpoch, EarlyStopping, MeanLoss, SaveCheckpoint, StepProgress
from mekiki.training.checkpoints import continue_from, read_checkpoint
from mekiki.training.fit import Callback, History, TrainingState, fit
from mekiki.training.schedules import one_cycle

STEPS = 60
"""Steps of an epoch at least."""
LEAST = 40
"""Parts with a text that it takes at least."""


@dataclass(frozen=True)
class Schooling:
    """How a describer learns.

    Attributes:
        epochs: at most; one is a pass over the parts, each with one of its answers, or as many passes as make `STEPS`
            steps where they are few.
        patience: epochs without gain after which it stops.
        batch: answers a step.
        rate: highest learning rate of AdamW.
        decay: weight decay.
        held_out: share of the parts that say when to stop; as many are for the proof.
        blind: share of the answers of a model of one's own that are learnt without a vector.
        seed: of the deal, the weights and the order.
    """

    epochs: int = 30
    patience: int = 5
    batch: int = 32
    rate: float = 2e-3
    decay: float = 0.01
    held_out: float = 0.1
    blind: float = 0.1
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Deal:
    """Which parts do what, as rows of the vectors.

    Attributes:
        teach: those learnt from.
        stop: those that say when to stop.
        prove: those that had no part in either.
    """

    teach: NDArray[np.intp]
    stop: NDArray[np.intp]
    prove: NDArray[np.intp]


def dealt(texts: Sequence[Text], schooling: Schooling) -> Deal:
    """Deal the parts that have a text.

    Raises:
        InputError: there are fewer than `LEAST`.

    Example:
        >>> deal = dealt([Text(part, "a", "en", {}) for part in range(100)], Schooling())
        >>> len(deal.teach), len(deal.stop), len(deal.prove)
        (80, 10, 10)
    """
    group_of = {text.part: text.group if text.group is not None else f"\0{text.part}" for text in texts}
    groups: dict[str, list[int]] = {}
    for part in sorted(group_of):
        groups.setdefault(group_of[part], []).append(part)
    if len(groups) < LEAST:
        raise InputError(
            f"{len(groups)} parts with a text are too few to learn from; it takes {LEAST}. Till then "
            "`mekiki describe` answers from the nearest past cases"
        )
    order = np.random.default_rng(schooling.seed).permutation(len(groups))
    each = max(8, round(schooling.held_out * len(groups)))
    names = list(groups)

    def of(chosen: NDArray[np.intp]) -> NDArray[np.intp]:
        return np.array([part for number in chosen for part in groups[names[number]]], np.intp)

    return Deal(of(order[2 * each :]), of(order[:each]), of(order[each : 2 * each]))


def learn(
    parts: PartVectors,
    texts: Sequence[Text],
    lm: LanguageModel | None = None,
    *,
    schooling: Schooling | None = None,
    lora: int | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> tuple[Describer, Deal, History]:
    """Learn to describe parts.

    Args:
        parts: their vectors.
        texts: what people wrote of them.
        lm: a language model, which stays frozen unless it is a small one of one's own; `None` makes one from the texts.
        schooling: how it learns.
        lora: rank of a low-rank change of the language model that is learnt too; `None` leaves it frozen.
        checkpoint: file of the state after each epoch, to go on from.
        resume: go on from there.
        progress: told after each step.
        on_epoch: told after each epoch.

    Returns:
        The describer at its best epoch; which parts it has not seen; and a row an epoch.

    Raises:
        InputError: too few parts have a text; or what is to be resumed was begun with other settings.
    """
    schooling = schooling or Schooling()
    deal = dealt(texts, schooling)
    learnt = [text for text in texts if text.part in set(deal.teach.tolist())]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(schooling.seed)
        if lm is None:
            asks = [ask for each in ASKS.values() for ask in each.values()]
            answers = [value for text in learnt for value in (text.text, *text.fields.values())]
            lm = LanguageModel.small([*answers, *asks], seed=schooling.seed)
        if lora is not None:
            lm.add_lora(lora)
        taught = PartVectors(
            parts.whole[deal.teach], None if parts.places is None else parts.places[deal.teach]
        )
        projector = Projector(taught, lm.hidden, lm.token_norm).to(lm.device)
        describer = Describer(lm, projector, values_of(texts))
        learning = Learning(describer, texts)
    return (
        describer,
        deal,
        _trained(learning, describer, parts, texts, deal, schooling, checkpoint, resume, progress, on_epoch),
    )


def _trained(
    learns: Learning,
    describer: Describer,
    parts: PartVectors,
    texts: Sequence[Text],
    deal: Deal,
    schooling: Schooling,
    checkpoint: Path | None,
    resume: bool,
    progress: Progress,
    on_epoch: Callable[[dict[str, float]], None] | None,
) -> History:
    own = describer.lm.own
    parameters = [each for each in learns.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=schooling.rate, weight_decay=schooling.decay)
    teach, stop = (examples_of(describer, texts, rows) for rows in (deal.teach, deal.stop))
    settings: dict[str, Any] = asdict(schooling) | {"examples": len(teach), "lm": describer.lm.name}
    history: History = {}
    if resume and checkpoint is not None:
        history = continue_from(checkpoint, settings, model=learns, optimizer=optimizer)
    early = EarlyStopping(learns, "held_out", schooling.patience, history.get("held_out", ()))
    mean = MeanLoss()
    callbacks: list[Callback] = [mean, StepProgress(progress, "learning to describe"), early]
    if checkpoint is not None:
        best = checkpoint.with_name(f"best-{checkpoint.name}")
        if resume:
            early.best = read_checkpoint(best).weights("model")
        # The best first: a crash between the two leaves a best newer than the state, and never a state without one.
        for path, when in ((best, lambda: early.improved), (checkpoint, None)):
            callbacks.append(SaveCheckpoint(path, settings, model=learns, optimizer=optimizer, when=when))
    if on_epoch is not None:
        callbacks.append(AfterEpoch(lambda state: on_epoch(state.row)))
    everything = tensors(parts)
    passes = max(1, -(-STEPS * schooling.batch // len(deal.teach)))

    def batches(epoch: int) -> tuple[int, Iterable[tuple[list[Example], NDArray[np.bool_] | None]]]:
        rng = np.random.default_rng((schooling.seed, epoch))
        describer.lm.model.train(own)
        several = (_batches(teach, schooling, own, rng) for _ in range(passes))
        return passes * -(-len(deal.teach) // schooling.batch), chain.from_iterable(several)

    def step(item: tuple[list[Example], NDArray[np.bool_] | None]) -> tuple[Tensor, int]:
        batch, blind = item
        soft = describer.soft(batch, everything, blind)
        loss = describer.losses(batch, soft).sum() / sum(len(example.answer) for example in batch)
        if learns.guides:
            loss = loss + learns.guidance(soft, batch, blind)
        return loss, len(batch)

    def backward(loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)

    def measure(state: TrainingState) -> dict[str, float]:
        describer.lm.model.eval()
        return {"loss": mean.value, "held_out": mean_loss(describer, stop, everything)}

    fit(
        batches,
        step,
        optimizer,
        epochs=schooling.epochs,
        rate=lambda epoch, step, steps: schooling.rate * one_cycle(epoch + step / steps, schooling.epochs),
        measure=measure,
        seed=schooling.seed,
        history=history,
        callbacks=callbacks,
        backward=backward,
    )
    early.restore()
    describer.lm.model.eval()
    return history


class Learning(nn.Module):
    """What of a describer learns: the projector, and of the language model all, its LoRA, or nothing.

    Beside them, and only while it learns, a linear guide for each of `ATTRIBUTES` reads it from the soft tokens (after
    Lee, Xie, Gallagher, Zhang and Tu, *Deeply-Supervised Nets*, 2015): what a text says of a part is a few of its
    tokens, and through the language model alone the projector hears too late which.

    Args:
        describer: whose parts they are.
        texts: what is known of the parts.
    """

    def __init__(self, describer: Describer, texts: Sequence[Text]) -> None:
        super().__init__()
        self.projector = describer.projector
        if describer.lm.own:
            self.model = describer.lm.model
        else:
            own_names = {
                name.replace(".", "/"): parameter
                for name, parameter in describer.lm.model.named_parameters()
                if parameter.requires_grad
            }
            self.change = nn.ParameterDict(own_names)
        width = describer.projector.length * describer.projector.hidden
        self.guides = nn.ModuleDict(
            {name: nn.Linear(width, len(values)) for name, values in describer.values.items()}
        ).to(describer.lm.device)
        self._known = {
            text.part: [describer.values[name].index(text.fields[name]) for name in describer.values]
            for text in texts
            if text.whole
        }
        self._norm = describer.projector.norm

    def guidance(self, soft: Tensor, examples: Sequence[Example], blind: NDArray[np.bool_] | None) -> Tensor:
        """Mean loss of what the guides read, nats: a number."""
        seen = [
            row
            for row, example in enumerate(examples)
            if example.part in self._known and not (blind is not None and blind[row])
        ]
        if not seen:
            return soft.new_zeros(())
        known = torch.tensor([self._known[examples[row].part] for row in seen], device=soft.device)
        flat = soft[seen].flatten(1) / self._norm
        read = [guide(flat) for guide in self.guides.values()]
        return torch.stack(
            [functional.cross_entropy(each, known[:, i]) for i, each in enumerate(read)]
        ).mean()


def mean_loss(describer: Describer, examples: Sequence[Example], everything: Any) -> float:
    """Mean loss of a token, nats."""
    total, number = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(examples), 32):
            batch = examples[start : start + 32]
            total += float(describer.losses(batch, describer.soft(batch, everything)).sum())
            number += sum(len(example.answer) for example in batch)
    return total / max(1, number)


def _batches(
    examples: Sequence[Example], schooling: Schooling, own: bool, rng: np.random.Generator
) -> Iterator[tuple[list[Example], NDArray[np.bool_] | None]]:
    """Batches of answers of about one length, in random order; and which of them are to be learnt without a vector."""
    # One of each part's answers at a time: what varies from pass to pass is then the wording, and never the part alone.
    of_part: dict[int, list[int]] = {}
    for row, example in enumerate(examples):
        of_part.setdefault(example.part, []).append(row)
    drawn = np.array([rows[int(rng.integers(len(rows)))] for rows in of_part.values()])
    order = rng.permutation(drawn)
    lengths = np.array([len(example.answer) + len(example.prompt) for example in examples])
    # Sorted within stretches, so that little is padding and yet no two epochs have the same batches.
    stretch = schooling.batch * 16
    sorted_rows = np.concatenate(
        [
            part[np.argsort(lengths[part], kind="stable")]
            for part in (order[start : start + stretch] for start in range(0, len(order), stretch))
        ]
    )
    batches = [
        sorted_rows[start : start + schooling.batch] for start in range(0, len(sorted_rows), schooling.batch)
    ]
    for number in rng.permutation(len(batches)):
        rows = batches[number]
        blind = rng.random(len(rows)) < schooling.blind if own else None
        yield [examples[row] for row in rows], blind
