"""The one training loop, on Lightning Fabric: batches of indices in, an embedding network that has learnt out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mekiki.console import Progress, silent
from mekiki.errors import DivergedError, InputError
from mekiki.models.networks import block_length, embed
from mekiki.threads import adaptive_threads
from mekiki.training.adam import FUSED_ON, FusedAdam
from mekiki.training.augment import Augmentation
from mekiki.training.checkpoints import History, read_checkpoint, restore, save_checkpoint
from mekiki.training.collapse import effective_rank, spread
from mekiki.training.distributed import ALONE, Ranks
from mekiki.training.objectives import Batch, Objective, Outcome
from mekiki.training.schedules import NEEDS_LENGTH, schedule
from mekiki.training.shared_norm import SharedBatchNorm2d, shared_batch_norm

if TYPE_CHECKING:
    from lightning_fabric import Fabric

WATCHED = 2000
"""How many examples the doctor looks at after each epoch."""
SWEEP_EVERY = 128
"""Steps between two sweeps of the optimizer's state (see `_sweep`)."""
SWEPT_BELOW = 1e-30
"""Far below what moves a float32 weight, and in 128 steps of decay far above the smallest normal number."""
REPORT_EVERY = 16
"""Steps between two reports of progress."""
FOLD_EVERY = 64
"""Steps between two additions of the losses to their sums."""

OnVectors = Callable[[NDArray[np.int64], NDArray[np.float32]], None]


@dataclass(frozen=True)
class Examples:
    """Examples as they are stored, and their labels.

    Attributes:
        stored: `[N, …]`: a tensor or array that fits in memory, or a memory map that is read batch by batch.
        labels: int64 `[N]`, 0 … classes − 1.
        rows: int64 `[N]`, where in `stored` each example is; without it they stand in order.
    """

    stored: Tensor | NDArray[Any]
    labels: Tensor
    rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor, device: torch.device) -> Tensor:
        """The examples at these indices, on `device`."""
        if self.rows is not None:
            indices = self.rows[indices]
        if isinstance(self.stored, Tensor):
            return self.stored.index_select(0, indices.to(self.stored.device)).to(device)
        return torch.from_numpy(self.stored[indices.numpy()]).to(device)

    def resident(self, device: torch.device) -> Examples:
        """The same with the examples held as a tensor on `device`; a memory map stays where it is."""
        if isinstance(self.stored, np.memmap):
            return self
        return Examples(torch.as_tensor(self.stored).to(device), self.labels, self.rows)


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how fast to learn.

    Attributes:
        epochs: passes over the examples.
        lr: highest learning rate of Adam.
        schedule: `"step"`, `"post19"` or `"one-cycle"`; see `mekiki.training.schedules`.
        seed: of the order, the pairs, the triplets and the augmentation.
        augment: how training images are changed at random, each time anew.
    """

    epochs: int = 10
    lr: float = 1e-3
    schedule: str = "step"
    seed: int = 0
    augment: Augmentation | None = None


def train(
    objective: Objective,
    encoder: nn.Module,
    examples: Examples,
    *,
    validation: Examples | None = None,
    settings: TrainingSettings,
    fabric: Fabric,
    checkpoint: Path | None = None,
    resume: bool = False,
    identity: Mapping[str, Any] | None = None,
    on_epoch: Callable[[History], None] | None = None,
    on_vectors: OnVectors | None = None,
    progress: Progress = silent,
) -> History:
    """Train the network of an objective in place.

    Everything random in an epoch is drawn from a generator seeded by the seed and the number of the epoch, so a
    training that is resumed goes on bit for bit as if it had never stopped.

    Where Fabric has joined several processes, each does its share of every batch
    (see `mekiki.training.distributed`): the
    same history up to rounding, returned by all, and the checkpoint written by the first. A checkpoint does not know
    how many there were.

    Args:
        objective: what is asked of the network; its model and loss are trained.
        encoder: the embedding network inside the objective's model, for the doctor to watch.
        examples: what to learn from.
        validation: what to measure on after each epoch.
        settings: epochs, rate, schedule, seed.
        fabric: device and precision.
        checkpoint: file to write after each epoch.
        resume: go on from `checkpoint`; if it is complete nothing is trained.
        identity: what must be equal for a checkpoint to be resumed (the loss, the net, the data); the number of
            epochs need not be.
        on_epoch: called after each epoch with the history so far, epochs before a resumption included.
        on_vectors: called before that with labels and vectors of the examples that the doctor looks at, the same each
            time.
        progress: called every few steps.

    Returns:
        The history: `epoch`, `train_loss`, `val_loss`, accuracies, `lr` (its mean), `threads` (at the end), `seconds`,
        `images_per_second`, `spread`, `magnitude`, `effective_rank`, `zero_loss_share`; one number an epoch each (NaN
        where there is none).

    Raises:
        DivergedError: a loss is not finite; the checkpoint holds the last good epoch.
        InputError: the checkpoint to resume was made with other settings, or another process has other data.
    """
    ranks = Ranks.of(fabric)
    with shared_batch_norm(objective.model, ranks) as norms:
        return _train(
            objective,
            encoder,
            examples,
            validation=validation,
            settings=settings,
            fabric=fabric,
            ranks=ranks,
            norms=norms,
            checkpoint=checkpoint,
            resume=resume,
            identity=identity,
            on_epoch=on_epoch if ranks.first else None,
            on_vectors=on_vectors if ranks.first else None,
            progress=progress if ranks.first else silent,
        )


def _train(
    objective: Objective,
    encoder: nn.Module,
    examples: Examples,
    *,
    validation: Examples | None,
    settings: TrainingSettings,
    fabric: Fabric,
    ranks: Ranks,
    norms: Sequence[SharedBatchNorm2d],
    checkpoint: Path | None,
    resume: bool,
    identity: Mapping[str, Any] | None,
    on_epoch: Callable[[History], None] | None,
    on_vectors: OnVectors | None,
    progress: Progress,
) -> History:
    parameters = [*objective.model.parameters(), *objective.loss.parameters()]
    objective.loss.to(fabric.device)
    # One pass over the weights instead of a dozen; Apple's backend has no kernel for it.
    adam = FusedAdam if fabric.device.type in FUSED_ON else torch.optim.Adam
    model, optimizer = objective.model, adam(parameters, lr=settings.lr)
    wrapped = fabric.setup(model, optimizer)
    if not ranks.alone:  # alone, the wrapper would do nothing but cost
        model = wrapped[0]
    examples = examples.resident(fabric.device)
    fixed: list[Batch] = []
    if validation is not None:
        validation = validation.resident(fabric.device)
        fixed = objective.fixed_batches(validation.labels)
    watched = validation if validation is not None else examples
    sample = torch.randperm(len(watched), generator=torch.Generator().manual_seed(0))[:WATCHED]

    identity = dict(identity or {}) | asdict(settings)
    if settings.schedule not in NEEDS_LENGTH:  # then a longer training is the same one gone on with
        del identity["epochs"]
    ranks.check_same("settings or data", identity)
    history: History = {}
    done = 0
    if resume and checkpoint is not None:
        saved = ranks.told(partial(read_checkpoint, checkpoint))
        _check_identity(checkpoint, saved.settings, identity)
        if saved.epoch > settings.epochs:
            raise InputError(
                f"{checkpoint}: has {saved.epoch} epochs, and {settings.epochs} are asked for; ask for as many or more"
            )
        restore(saved, model=objective.model, loss=objective.loss, optimizer=optimizer)
        history, done = saved.history, saved.epoch

    learner = _Learner(objective, model, optimizer, settings, fabric, ranks, norms)
    for epoch in range(done, settings.epochs):
        epoch_seed = settings.seed * 1_000_003 + epoch
        generator = torch.Generator().manual_seed(epoch_seed)
        start = time.perf_counter()
        # Forked, for a loss of another library that draws from the global state.
        with torch.random.fork_rng(devices=[]), adaptive_threads() as consider:
            torch.manual_seed(epoch_seed)
            row, images = learner.pass_over(examples, epoch, generator, consider, progress)
            seconds = time.perf_counter() - start
            row |= _validate(objective, fixed, validation, fabric, ranks, consider)
            vectors = _vectors(encoder, watched, sample, fabric, ranks)
            row |= _watch(vectors)
        # The loss alone does not tell: a pair infinitely far apart has no loss, and a gradient that is no number.
        if not all(math.isfinite(row[name]) for name in ("train_loss", "spread")):
            raise DivergedError(
                f"{_numbered(epoch, settings)}: the loss is {row['train_loss']:.3g} and the spread of the vectors "
                f"{row['spread']:.3g}; "
                f"training stopped{' and the last good epoch is kept' if epoch and checkpoint else ''}. Lower the "
                f"learning rate (now {row['lr']:.3g}), and check the input for extreme values"
            )
        row |= {"seconds": seconds, "images_per_second": images / seconds}
        for name, value in ({"epoch": float(epoch + 1)} | row).items():
            history.setdefault(name, []).append(value)
        if checkpoint is not None and ranks.first:
            save_checkpoint(
                checkpoint,
                model=objective.model,
                loss=objective.loss,
                optimizer=optimizer,
                history=history,
                settings=identity,
            )
        if on_vectors is not None:
            on_vectors(watched.labels[sample].numpy(), vectors.float().cpu().numpy())
        if on_epoch is not None:
            on_epoch(history)
    objective.model.eval()
    return history


@dataclass(frozen=True)
class _Learner:
    """What changes while it learns, and how."""

    objective: Objective
    model: nn.Module
    optimizer: torch.optim.Optimizer
    settings: TrainingSettings
    fabric: Fabric
    ranks: Ranks
    norms: Sequence[SharedBatchNorm2d]

    def pass_over(
        self,
        examples: Examples,
        epoch: int,
        generator: torch.Generator,
        consider: Callable[[], None],
        progress: Progress,
    ) -> tuple[dict[str, float], int]:
        """One pass; returns the row of the history and the number of images that went through the network."""
        self.model.train()
        batches = self.objective.train_batches(examples.labels, generator)
        parameters = [*self.objective.model.parameters(), *self.objective.loss.parameters()]
        device, ranks = self.fabric.device, self.ranks
        factor = schedule(self.settings.schedule)
        augment, label = self.settings.augment, _numbered(epoch, self.settings)
        sums = _Sums(ranks, device)
        # What is changed at random draws for the whole batch, whoever does which part of it.
        ahead = _taken_ahead(examples, batches, device, ALONE if augment is not None else ranks)
        images, rates, running = 0, 0.0, math.nan
        start = time.perf_counter()
        for step, (batch, taken) in enumerate(ahead):
            consider()
            rate = self.settings.lr * factor(epoch + (step + 0.5) / len(batches), self.settings.epochs)
            rates += rate
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            if augment is not None:
                share = ranks.share(len(batch.target))
                taken = [augment(side, generator, share) for side in taken]
            outcome, loss = self._asked(batch, taken)
            for parameter in parameters:  # what zero_grad does, without its profiling hook
                parameter.grad = None
            self.fabric.backward(loss)
            ranks.average_gradients(self.objective.loss)
            self.optimizer.step()
            if step % SWEEP_EVERY == 0:
                _sweep(self.optimizer)
            sums.add(outcome, len(batch.target), self.objective.whole_batches)
            images += sum(len(side) for side in batch.sides)
            if step % REPORT_EVERY == 0:
                (total,) = ranks.summed([loss.item()], device)
                running = total / ranks.size
                if not math.isfinite(running):
                    break
                pace = images / (time.perf_counter() - start)
                progress(f"{label}  loss {running:.4f}  {pace:,.0f} images/s", step, len(batches))
        progress(label, len(batches), len(batches))
        means = sums.means()
        row = {
            "train_loss": means["loss"],
            "lr": rates / (step + 1),
            "threads": float(torch.get_num_threads()),
        }
        if self.objective.margin is not None:  # only pairs and triplets can be done with
            row["zero_loss_share"] = means["zero"]
        if "correct" in means:
            row[self.objective.accuracy_name] = means["correct"]
        return row, images

    def _asked(self, batch: Batch, taken: list[Tensor]) -> tuple[Outcome, Tensor]:
        """What came of this process's share of a batch, and what to take the gradient of.

        The wrapped model averages gradients over processes, so what is averaged must be the loss of the whole batch.
        """
        number, ranks = len(batch.target), self.ranks
        for norm in self.norms:
            norm.divided = ranks.divides(number)
        outputs = self.model(*taken)
        if self.objective.whole_batches:
            several = outputs if isinstance(outputs, tuple) else (outputs,)
            whole = tuple(ranks.gathered(each, number) for each in several)
            outputs = whole if isinstance(outputs, tuple) else whole[0]
            outcome = self.objective.training_outcome(outputs, batch.target.to(self.fabric.device))
            return outcome, outcome.losses.mean()
        target = batch.target[ranks.share(number)].to(self.fabric.device)
        outcome = self.objective.training_outcome(outputs, target)
        if ranks.alone or not ranks.divides(number):
            return outcome, outcome.losses.mean()
        return outcome, outcome.losses.sum() * (ranks.size / number)


def _numbered(epoch: int, settings: TrainingSettings) -> str:
    return f"epoch {epoch + 1}/{settings.epochs}"


def _taken_ahead(
    examples: Examples, batches: list[Batch], device: torch.device, ranks: Ranks = ALONE
) -> Iterator[tuple[Batch, list[Tensor]]]:
    """Each batch with its examples; those that lie on a disk are read one batch ahead, while the network works."""

    def take(batch: Batch) -> list[Tensor]:
        return [examples.take(side[ranks.share(len(side))], device) for side in batch.sides]

    if not isinstance(examples.stored, np.memmap):
        yield from ((batch, take(batch)) for batch in batches)
        return
    with ThreadPoolExecutor(1, "examples") as reader:
        ahead = reader.submit(take, batches[0])
        for batch, following in zip(batches, [*batches[1:], None], strict=True):
            taken = ahead.result()
            if following is not None:
                ahead = reader.submit(take, following)
            yield batch, taken


@torch.no_grad()
def _validate(
    objective: Objective,
    fixed: list[Batch],
    validation: Examples | None,
    fabric: Fabric,
    ranks: Ranks,
    consider: Callable[[], None],
) -> dict[str, float]:
    if validation is None or not fixed:
        return {"val_loss": math.nan}
    objective.validation_model.eval()
    sums = _Sums(ranks, fabric.device)
    for batch in fixed[ranks.rank :: ranks.size]:
        consider()
        outputs = objective.validation_model(*(validation.take(side, fabric.device) for side in batch.sides))
        sums.take(objective.validation_outcome(outputs, batch.target.to(fabric.device)))
    means = sums.means()
    row = {"val_loss": means["loss"]}
    if "correct" in means:
        row[f"val_{objective.accuracy_name}"] = means["correct"]
    return row


def _vectors(encoder: nn.Module, watched: Examples, sample: Tensor, fabric: Fabric, ranks: Ranks) -> Tensor:
    block = block_length(encoder)
    own = sample[ranks.share(len(sample))]
    parts = (own[start : start + block] for start in range(0, len(own), block))
    vectors = torch.cat([embed(encoder, watched.take(part, fabric.device)) for part in parts])
    return ranks.gathered(vectors.to(fabric.device), len(sample)).cpu()


def _watch(vectors: Tensor) -> dict[str, float]:
    return {
        "spread": spread(vectors),
        "magnitude": vectors.norm(dim=1).mean().item(),
        "effective_rank": effective_rank(vectors),
    }


@torch.no_grad()
def _sweep(optimizer: torch.optim.Optimizer) -> None:
    """Set first moments that have decayed to nearly nothing to zero.

    Adam's memory of a weight that gets no gradient any more (a silent ReLU) decays into denormal numbers within two
    epochs. Processors compute with those many times slower: on MNIST a fifth of the weights are such, and Adam takes
    three times as long. Flushing them in hardware is a setting of each thread, which OpenMP's threads do not share.
    """
    for state in optimizer.state.values():
        moment = state.get("exp_avg")
        if moment is not None:
            moment.masked_fill_(moment.abs() < SWEPT_BELOW, 0.0)


class _Sums:
    """Means over items, not over batches: a short last batch counts for what it holds; over all processes."""

    def __init__(self, ranks: Ranks, device: torch.device) -> None:
        self.ranks, self.device = ranks, device
        self.waiting: list[Outcome] = []
        self.loss = self.zero = self.correct = 0.0
        self.items = self.judged = 0

    def add(self, outcome: Outcome, number: int, whole: bool) -> None:
        """Take the outcome of a batch of `number` items; the first counts for all what each of them has done whole."""
        if self.ranks.first or (self.ranks.divides(number) and not whole):
            self.take(outcome)

    def take(self, outcome: Outcome) -> None:
        """Take an outcome that no other process has."""
        # Added up only every so often: on a step's few numbers that would cost as much as the loss itself.
        self.waiting.append(Outcome(outcome.losses.detach(), outcome.correct))
        if len(self.waiting) == FOLD_EVERY:
            self._fold()

    def means(self) -> dict[str, float]:
        self._fold()
        own = [self.loss, self.zero, self.correct, self.items, self.judged]
        loss, zero, correct, items, judged = self.ranks.summed(own, self.device)
        result = {"loss": loss / items, "zero": zero / items}
        return result | ({"correct": correct / judged} if judged else {})

    def _fold(self) -> None:
        if not self.waiting:
            return
        losses = torch.cat([outcome.losses for outcome in self.waiting])
        self.loss += losses.sum().item()
        self.zero += (losses == 0).sum().item()
        self.items += len(losses)
        correct = [outcome.correct for outcome in self.waiting if outcome.correct is not None]
        if correct:
            right = torch.cat(correct)
            self.correct += right.sum().item()
            self.judged += len(right)
        self.waiting.clear()


def _check_identity(path: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    different = [key for key in sorted({*saved, *wanted}) if saved.get(key) != wanted.get(key)]
    if different:
        # What the doctor was told follows from the rest, and says nothing to a reader.
        named = [key for key in different if key != "doctor"] or different
        told = ", ".join(f"{key} was {saved.get(key)!r} and is now {wanted.get(key)!r}" for key in named)
        raise InputError(
            f"{path.parent}: cannot be gone on with: {told}; give the same settings, or another --out"
        )
