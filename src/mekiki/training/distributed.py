"""Several processes that train one network: each does its share of every batch, and all take the same step.

The batches are those of one process, drawn from the same seeds everywhere. What is summed over processes is summed in
another order than in one, so results agree up to rounding and not to the bit.
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

Result = TypeVar("Result")


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is.

    Attributes:
        rank: 0 … size − 1; rank 0 writes and speaks.
        size: how many there are; alone, nothing is sent anywhere.

    Example:
        >>> one, two = Ranks(0, 2), Ranks(1, 2)
        >>> one.share(5), two.share(5)
        (slice(0, 2, None), slice(2, 5, None))
        >>> two.share(1)  # too few to be shared: each does all of them
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
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def divides(self, number: int) -> bool:
        """Whether so many items are shared out; fewer than there are processes are done by each."""
        return number >= self.size

    def share(self, number: int) -> slice:
        """Which of `number` items in a row are this process's."""
        return self._shares(number)[self.rank]

    def gathered(self, local: Tensor, number: int) -> Tensor:
        """The rows of all processes, in order: `[share, …]` → `[number, …]`.

        The gradient of a row is the sum of what every process has for it.

        Args:
            local: this process's share.
            number: of rows in all.
        """
        if self.alone or not self.divides(number):
            return local
        whole: Tensor = _Gathered.apply(local, self._shares(number), self.rank)  # type: ignore[no-untyped-call]
        return whole

    def summed(self, values: Sequence[float], device: torch.device) -> list[float]:
        """The sums over all processes of numbers that each has."""
        if self.alone:
            return list(values)
        # Apple's backend has no float64, and no several processes either.
        total = torch.tensor(values, dtype=torch.float64, device=device)
        distributed.all_reduce(total)
        return [float(value) for value in total]

    def average_gradients(self, module: nn.Module) -> None:
        """Average the gradients of a module that no wrapper looks after."""
        if self.alone:
            return
        for parameter in module.parameters():
            if parameter.grad is not None:
                distributed.all_reduce(parameter.grad)
                parameter.grad /= self.size

    def told(self, work: Callable[[], Result]) -> Result:
        """What rank 0 finds, told to all; an error meant for a person is raised by all."""
        if self.alone:
            return work()
        said: list[Any] = [None, None]
        if self.first:
            try:
                said = [work(), None]
            except MekikiError as error:
                said = [None, str(error)]
                distributed.broadcast_object_list(said)
                raise
        distributed.broadcast_object_list(said)
        if said[1] is not None:
            raise InputError(said[1])
        found: Result = said[0]
        return found

    def check_same(self, what: str, own: object) -> None:
        """Refuse to go on where this process has another thing than rank 0.

        Raises:
            InputError: it has.
        """
        theirs = self.told(lambda: own)
        if theirs != own:
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


class _Gathered(torch.autograd.Function):
    """All processes' rows in order; shares may differ by one row, which is padded on the way."""

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
