"""Training one network by several processes: each computes its share of every batch, and all make the same step.

All processes draw the same batches from the same seeds. Sums over processes are taken in another order than in one
process, so results agree up to rounding and not to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from mekiki.errors import InputError, MekikiError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Value = TypeVar("Value")


@dataclass(frozen=True)
class Ranks:
    """The number of this process among those that train together, and what they exchange.

    Attributes:
        rank: 0 … size − 1; rank 0 writes files and messages.
        size: how many processes there are; one alone exchanges nothing.

    Example:
        >>> first, second = Ranks(0, 2), Ranks(1, 2)
        >>> first.share(5), second.share(5)
        (slice(0, 2, None), slice(2, 5, None))
        >>> second.share(1)  # fewer rows than processes: each process takes all of them
        slice(0, 1, None)
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def of(cls, fabric: Fabric) -> Ranks:
        """This process among those that Fabric has joined."""
        return cls(fabric.global_rank, fabric.world_size)

    @property
    def alone(self) -> bool:
        """Whether there is one process."""
        return self.size == 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def divides(self, number: int) -> bool:
        """Whether a batch of this length is divided; with fewer rows than processes, each process takes all."""
        return number >= self.size

    def share(self, number: int) -> slice:
        """The rows of `number` that are this process's."""
        return self._shares(number)[self.rank]

    def gather(self, local: Tensor, number: int) -> Tensor:
        """The rows of all processes, in order: `[share, …]` → `[number, …]`.

        The gradient of a row is the sum of the gradients that the processes have for it.
        """
        if self.alone or not self.divides(number):
            return local
        whole: Tensor = _Gather.apply(local, self._shares(number), self.rank)  # type: ignore[no-untyped-call]
        return whole

    def sum(self, values: Sequence[float], device: torch.device) -> list[float]:
        """The sums of each number over all processes."""
        if self.alone:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=device)
        distributed.all_reduce(total)
        return [float(value) for value in total]

    def average_gradients(self, module: nn.Module) -> None:
        """Average the gradients of a module that Fabric has not wrapped."""
        if not self.alone:
            self._average([each.grad for each in module.parameters() if each.grad is not None])

    def average_batch_norms(self, module: nn.Module) -> None:
        """Average the running means and variances of the batch normalisations in a module."""
        if not self.alone:
            self._average([value for name, value in module.named_buffers() if "running_" in name])

    def _average(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            distributed.all_reduce(tensor)
            tensor /= self.size

    def broadcast(self, work: Callable[[], Value]) -> Value:
        """Do `work` on rank 0, and give all processes its result, or raise its error if a person can mend that."""
        if self.alone:
            return work()
        message: list[Any] = [None, None]
        if self.first:
            try:
                message = [work(), None]
            except MekikiError as error:
                distributed.broadcast_object_list([None, str(error)])
                raise
        distributed.broadcast_object_list(message)
        if message[1] is not None:
            raise InputError(message[1])
        value: Value = message[0]
        return value

    def check_same(self, what: str, own: object) -> None:
        """Check that this process has the same as rank 0.

        Raises:
            InputError: it has not.
        """
        if self.broadcast(lambda: own) != own:
            raise InputError(
                f"process {self.rank} of {self.size} has other {what} than the first; give every machine the same "
                "data at the same place, and the same command"
            )

    def _shares(self, number: int) -> list[slice]:
        if not self.divides(number):
            return [slice(0, number)] * self.size
        bounds = [number * rank // self.size for rank in range(self.size + 1)]
        return [slice(*ends) for ends in pairwise(bounds)]


ALONE = Ranks()


class _Gather(torch.autograd.Function):
    """The rows of all processes in order; shares may differ by one row, so they are padded for the exchange."""

    @staticmethod
    def forward(ctx: Any, local: Tensor, shares: list[slice], rank: int) -> Tensor:
        ctx.own = shares[rank]
        lengths = [share.stop - share.start for share in shares]
        padded = local.new_zeros((max(lengths), *local.shape[1:]))
        padded[: len(local)] = local
        parts = [torch.empty_like(padded) for _ in shares]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total[ctx.own], None, None
