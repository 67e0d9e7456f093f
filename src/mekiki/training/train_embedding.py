"""Training of an embedding network, on Lightning Fabric: examples and an objective in, a history out."""

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
from torch.optim import Optimizer

from mekiki.console import Progress, silent
from mekiki.errors import DivergedError, InputError
from mekiki.models.networks import block_length, embed
from mekiki.threads import adaptive_threads
from mekiki.training.augment import Augmentation
from mekiki.training.callbacks import SaveCheckpoint
from mekiki.training.checkpoints import check_settings, read_checkpoint, restore
from mekiki.training.collapse import effective_rank, spread
from mekiki.training.distributed import ALONE, Ranks
from mekiki.training.fit import Callback, History, TrainingState, epoch_seed, fit
from mekiki.training.objectives import Batch, Objective, Outcome
from mekiki.training.schedules import NEEDS_LENGTH, schedule

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SAMPLE = 2000
"""How many examples are embedded after each epoch for the collapse check."""
SWEEP_EVERY = 128
"""Steps between two sweeps of the optimizer's state (see `sweep_denormals`)."""
SWEEP_BELOW = 1e-30
"""Far below what changes a float32 weight, and 128 steps of decay later still above the smallest normal number."""
REPORT_EVERY = 16
"""Steps between two reports of progress."""
ADD_EVERY = 64
"""Steps between two additions of the losses to their sums."""
FUSED_ON = ("cpu", "cuda")
"""Devices for which torch has Adam as one kernel."""


@dataclass(frozen=True)
class Examples:
    """Examples as they are stored, and their labels.

    Attributes:
        stored: `[N, …]`: a tensor or array that fits in memory, or a memory map that is read batch by batch.
        labels: int64 `[N]`, 0 … classes − 1.
        rows: int64 `[N]`, the row of each example in `stored`; without it they are in order.
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

    def move_to(self, device: torch.device) -> Examples:
        """The same with the examples as a tensor on `device`; a memory map stays where it is."""
        if isinstance(self.stored, np.memmap):
            return self
        return Examples(torch.as_tensor(self.stored).to(device), self.labels, self.rows)


@dataclass(frozen=True)
class TrainingSettings:
    """Length, rate and randomness of a training.

    Attributes:
        epochs: passes over the examples.
        lr: highest learning rate of Adam.
        schedule: `"step"`, `"post19"` or `"one-cycle"`; see `mekiki.training.schedules`.
        seed: of the order, the pairs, the triplets and the augmentation.
        augment: random changes of the training images.
    """

    epochs: int = 10
    lr: float = 1e-3
    schedule: str = "step"
    seed: int = 0
    augment: Augmentation | None = None


def train_embedding(
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
    callbacks: Sequence[Callback] = (),
    progress: Progress = silent,
) -> History:
    """Train the network of an objective in place.

    Everything random in an epoch comes from a generator seeded by the seed and the number of the epoch, so a resumed
    training equals an uninterrupted one to the bit.

    Where Fabric has joined several processes, each computes its share of every batch (see
    `mekiki.training.distributed`). All return the same history; the first writes the checkpoint, which another number
    of processes can resume.

    Args:
        objective: its model and its loss are trained.
        encoder: the embedding network inside the objective's model, for the collapse check.
        examples: the training examples.
        validation: examples to measure the loss on after each epoch.
        settings: epochs, rate, schedule, seed.
        fabric: device and precision.
        checkpoint: file to write after each epoch.
        resume: continue from `checkpoint`; if it is complete nothing is trained.
        identity: further settings that must be equal for a resumption (the loss, the network, the data).
        callbacks: called by the first process; their state has a `sample`.
        progress: called every few steps.

    Returns:
        The history: `epoch`, `train_loss`, `lr` (its mean), `threads` (at the end), `val_loss`, accuracies, `spread`,
        `magnitude`, `effective_rank`, `zero_loss_share`, `seconds`, `images_per_second`; NaN where there is no number.

    Raises:
        DivergedError: a loss is not finite; the checkpoint holds the last good epoch.
        InputError: the checkpoint was made with other settings, or another process has other data.
    """
    training = _EmbeddingTraining(objective, encoder, examples, validation, settings, fabric)
    ranks, optimizer = training.ranks, training.optimizer
    identity = dict(identity or {}) | asdict(settings)
    if settings.schedule not in NEEDS_LENGTH:  # then a training may be made longer afterwards
        del identity["epochs"]
    ranks.check_same("settings or data", identity)
    history: History = {}
    if resume and checkpoint is not None:
        saved = ranks.broadcast(partial(read_checkpoint, checkpoint))
        check_settings(checkpoint, saved.settings, identity)
        if saved.epoch > settings.epochs:
            raise InputError(
                f"{checkpoint}: has {saved.epoch} epochs, and {settings.epochs} are asked for; ask for as many or more"
            )
        restore(saved, model=objective.model, loss=objective.loss, optimizer=optimizer)
        history = saved.history
    after: list[Callback] = []
    if ranks.first:
        training.progress = progress
        if checkpoint is not None:
            training.saves = True
            after.append(
                SaveCheckpoint(
                    checkpoint, identity, model=objective.model, loss=objective.loss, optimizer=optimizer
                )
            )
        after += callbacks
    factor = schedule(settings.schedule)
    with adaptive_threads() as training.adapt_threads:
        fit(
            training.batches,
            training.step,
            optimizer,
            epochs=settings.epochs,
            rate=lambda epoch, step, steps: (
                settings.lr * factor(epoch + (step + 0.5) / steps, settings.epochs)
            ),
            measure=training.measure,
            seed=settings.seed,
            history=history,
            callbacks=[training, *after],
            backward=training.backward,
        )
    objective.model.eval()
    return history


class _EmbeddingTraining(Callback):
    """The optimizer, the batches, the step and the measurements of one training."""

    adapt_threads: Callable[[], None]

    def __init__(
        self,
        objective: Objective,
        encoder: nn.Module,
        examples: Examples,
        validation: Examples | None,
        settings: TrainingSettings,
        fabric: Fabric,
    ) -> None:
        self.objective, self.encoder, self.settings = objective, encoder, settings
        self.progress: Progress = silent
        self.saves = False
        self.fabric, self.ranks, self.device = fabric, Ranks.of(fabric), fabric.device
        objective.loss.to(self.device)
        if not self.ranks.alone and self.device.type == "cuda":  # torch has this for GPUs only
            nn.SyncBatchNorm.convert_sync_batchnorm(objective.model)  # type: ignore[no-untyped-call]
        parameters = [*objective.model.parameters(), *objective.loss.parameters()]
        fused = self.device.type in FUSED_ON or None
        self.optimizer = torch.optim.Adam(parameters, settings.lr, fused=fused)
        wrapped = fabric.setup(objective.model, self.optimizer)
        # With one process the wrapper takes time and does nothing.
        self.model: nn.Module = objective.model if self.ranks.alone else wrapped[0]
        self.examples = examples.move_to(self.device)
        self.validation = None if validation is None else validation.move_to(self.device)
        self.fixed = [] if validation is None else objective.fixed_batches(validation.labels)
        self.watched = self.validation or self.examples
        order = torch.randperm(len(self.watched), generator=torch.Generator().manual_seed(0))
        self.sample = order[:SAMPLE]

    def batches(self, epoch: int) -> tuple[int, Iterator[tuple[Batch, list[Tensor]]]]:
        """The batches of an epoch, with their examples."""
        self.generator = torch.Generator().manual_seed(epoch_seed(self.settings.seed, epoch))
        batches = self.objective.train_batches(self.examples.labels, self.generator)
        # Augmentation draws for the whole batch, so that a process's share is changed as in one process.
        ranks = ALONE if self.settings.augment is not None else self.ranks
        return len(batches), read_ahead(self.examples, batches, self.device, ranks)

    def on_epoch_start(self, state: TrainingState) -> None:
        """Switch to training, and start counting."""
        self.model.train()
        self.means = _Means(self.ranks, self.device)
        self.images, self.rates, self.start = 0, 0.0, time.perf_counter()
        self.label = f"epoch {state.epoch + 1}/{state.epochs}"

    def step(self, batch: tuple[Batch, list[Tensor]]) -> tuple[Tensor, int]:
        """The loss of this process's share of a batch, scaled so that its gradient averages to that of the batch."""
        self.adapt_threads()
        (sides, labels), images = batch
        objective, ranks, number = self.objective, self.ranks, len(labels)
        augment = self.settings.augment
        if augment is not None:
            images = [augment(side, self.generator, ranks.share(number)) for side in images]
        outputs = self.model(*images)
        if objective.whole_batches:
            vectors = outputs if isinstance(outputs, tuple) else (outputs,)
            whole = tuple(ranks.gather(each, number) for each in vectors)
            target = labels.to(self.device)
            outcome = objective.training_outcome(whole if isinstance(outputs, tuple) else whole[0], target)
        else:
            target = labels[ranks.share(number)].to(self.device)
            outcome = objective.training_outcome(outputs, target)
        divided = ranks.divides(number) and not objective.whole_batches
        if ranks.first or divided:  # a batch that every process has whole is counted once
            self.means.add(outcome)
        self.images += sum(len(side) for side in sides)
        if divided and not ranks.alone:
            return outcome.losses.sum() * (ranks.size / number), number
        return outcome.losses.mean(), number

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients, and average them over the processes."""
        self.fabric.backward(loss)
        self.ranks.average_gradients(self.objective.loss)

    def on_step_end(self, state: TrainingState) -> None:
        """Report, and end the epoch if the loss is not finite."""
        self.rates += state.rate
        if state.step % SWEEP_EVERY == 0:
            sweep_denormals(self.optimizer)
        if state.step % REPORT_EVERY:
            return
        (total,) = self.ranks.sum([state.loss.item()], self.device)
        loss = total / self.ranks.size
        state.end_epoch = not math.isfinite(loss)
        pace = self.images / (time.perf_counter() - self.start)
        self.progress(f"{self.label}  loss {loss:.4f}  {pace:,.0f} images/s", state.step, state.steps)

    def measure(self, state: TrainingState) -> dict[str, float]:
        """The row of the history.

        Raises:
            DivergedError: the loss or the vectors are not finite.
        """
        self.progress(self.label, state.steps, state.steps)
        means = self.means.compute()
        row = {
            "train_loss": means["loss"],
            "lr": self.rates / (state.step + 1),
            "threads": float(torch.get_num_threads()),
        }
        if self.objective.margin is not None:  # the loss of other objectives never reaches zero
            row["zero_loss_share"] = means["zero"]
        if "correct" in means:
            row[self.objective.accuracy_name] = means["correct"]
        seconds = time.perf_counter() - self.start
        self.ranks.average_batch_norms(self.objective.model)
        row |= self._validate()
        vectors = self._embed_sample()
        row |= {
            "spread": spread(vectors),
            "magnitude": vectors.norm(dim=1).mean().item(),
            "effective_rank": effective_rank(vectors),
        }
        # The loss alone is not enough: an infinitely distant pair has none, and its gradient is not a number.
        if not all(math.isfinite(row[name]) for name in ("train_loss", "spread")):
            kept = " and the last good epoch is kept" if state.epoch and self.saves else ""
            raise DivergedError(
                f"{self.label}: the loss is {row['train_loss']:.3g} and the spread of the vectors {row['spread']:.3g}; "
                f"training stopped{kept}. Lower the learning rate (now {row['lr']:.3g}), and check the input for "
                "extreme values"
            )
        state.sample = (self.watched.labels[self.sample], vectors.float())
        return row | {"seconds": seconds, "images_per_second": self.images / seconds}

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        if self.validation is None or not self.fixed:
            return {"val_loss": math.nan}
        model = self.objective.validation_model.eval()
        sums = _Means(self.ranks, self.device)
        for batch in self.fixed[self.ranks.rank :: self.ranks.size]:
            self.adapt_threads()
            outputs = model(*(self.validation.take(side, self.device) for side in batch.sides))
            sums.add(self.objective.validation_outcome(outputs, batch.target.to(self.device)))
        means = sums.compute()
        row = {"val_loss": means["loss"]}
        if "correct" in means:
            row[f"val_{self.objective.accuracy_name}"] = means["correct"]
        return row

    def _embed_sample(self) -> Tensor:
        block = block_length(self.encoder)
        own = self.sample[self.ranks.share(len(self.sample))]
        parts = [self.watched.take(part, self.device) for part in torch.split(own, block)]
        vectors = torch.cat([embed(self.encoder, part) for part in parts])
        return self.ranks.gather(vectors.to(self.device), len(self.sample)).cpu()


def read_ahead(
    examples: Examples, batches: Sequence[Batch], device: torch.device, ranks: Ranks = ALONE
) -> Iterator[tuple[Batch, list[Tensor]]]:
    """Each batch with its examples; a memory map is read one batch ahead, while the network computes."""

    def take(batch: Batch) -> list[Tensor]:
        return [examples.take(side[ranks.share(len(side))], device) for side in batch.sides]

    if not isinstance(examples.stored, np.memmap):
        yield from ((batch, take(batch)) for batch in batches)
        return
    with ThreadPoolExecutor(1, "examples") as reader:
        ahead = reader.submit(take, batches[0])
        for batch, following in zip(batches, [*batches[1:], None], strict=True):
            images = ahead.result()
            if following is not None:
                ahead = reader.submit(take, following)
            yield batch, images


@torch.no_grad()
def sweep_denormals(optimizer: Optimizer) -> None:
    """Set first moments of Adam that have decayed to nearly nothing to zero.

    The moment of a weight that gets no gradient any more (a silent ReLU) decays into denormal numbers within two
    epochs, and processors compute with those many times slower: on MNIST a fifth of the weights are such, and Adam
    takes three times as long. Flushing them in hardware is a setting of each thread, which OpenMP's threads do not
    share.
    """
    for state in optimizer.state.values():
        moment = state.get("exp_avg")
        if moment is not None:
            moment.masked_fill_(moment.abs() < SWEEP_BELOW, 0.0)


class _Means:
    """Means over the items of all batches and processes, so that a short last batch counts for what it holds."""

    def __init__(self, ranks: Ranks, device: torch.device) -> None:
        self.ranks, self.device = ranks, device
        self.waiting: list[Outcome] = []
        self.totals = np.zeros(5)

    def add(self, outcome: Outcome) -> None:
        """Add the outcome of a batch."""
        # Summed only every so often: on the few numbers of a step that would take as long as the loss itself.
        self.waiting.append(Outcome(outcome.losses.detach(), outcome.correct))
        if len(self.waiting) == ADD_EVERY:
            self._sum_up()

    def compute(self) -> dict[str, float]:
        """`loss`, the share of items without loss `zero`, and the share that is `correct` where that has a meaning."""
        self._sum_up()
        loss, zero, correct, items, answers = self.ranks.sum(self.totals.tolist(), self.device)
        result = {"loss": loss / items, "zero": zero / items}
        return result | ({"correct": correct / answers} if answers else {})

    def _sum_up(self) -> None:
        if self.waiting:
            losses = torch.cat([outcome.losses for outcome in self.waiting])
            right = [outcome.correct for outcome in self.waiting if outcome.correct is not None]
            correct = torch.cat(right) if right else losses.new_zeros(0)
            sums = [each.sum().item() for each in (losses, losses == 0, correct)]
            self.totals += [*sums, len(losses), len(correct)]
            self.waiting.clear()
