"""Batch normalisation over a batch that several processes share, as one process would do it.

torch's own `SyncBatchNorm` is for GPUs alone; this one is for any device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from mekiki.training.distributed import Ranks


@contextmanager
def shared_batch_norm(model: nn.Module, ranks: Ranks) -> Iterator[list[SharedBatchNorm2d]]:
    """Inside, the batch normalisations of a model see the whole batch of all processes.

    Their weights and statistics stay the same objects.

    Yields:
        What stands in for them, to be told which batches are shared.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
        >>> with shared_batch_norm(model, Ranks(0, 2)):
        ...     type(model[1]).__name__
        'SharedBatchNorm2d'
        >>> type(model[1]).__name__
        'BatchNorm2d'
    """
    if ranks.alone:
        yield []
        return
    places = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is nn.BatchNorm2d
    ]
    shared = [SharedBatchNorm2d(child) for _, _, child in places]
    for (parent, name, _), norm in zip(places, shared, strict=True):
        setattr(parent, name, norm)
    try:
        yield shared
    finally:
        for parent, name, child in places:
            child.train(parent.training)
            setattr(parent, name, child)


class SharedBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose mean and variance are those of all processes' images together.

    Args:
        like: weights, running statistics and settings are its own, not copies.

    Attributes:
        divided: whether the batch is shared; else each process has all of it, and nothing is to be joined.
    """

    divided = True

    def __init__(self, like: nn.BatchNorm2d) -> None:
        super().__init__(like.num_features, like.eps, like.momentum, like.affine, like.track_running_stats)
        self.weight, self.bias = like.weight, like.bias
        self.running_mean, self.running_var = like.running_mean, like.running_var
        self.num_batches_tracked = like.num_batches_tracked
        self.train(like.training)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `[B, C, H, W]`; in evaluation as the original does."""
        if not (self.training and self.divided):
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None
        normal, mean, var, count = _Normalised.apply(x, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self.num_batches_tracked += 1
            momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(var * (count / (count - 1).clamp(min=1)), momentum)
        normalised: Tensor = normal
        return normalised


class _Normalised(torch.autograd.Function):
    """Normalised by the moments of all processes, with the gradient written out: one message each way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
        # Not torch.var_mean, which takes nine times as long over these axes.
        own_mean = x.mean((0, 2, 3))
        own_var = (x - own_mean.view(1, -1, 1, 1)).square_().mean((0, 2, 3))
        count = x.new_full((1,), x.numel() / x.shape[1])
        own = torch.cat((count, own_mean, own_var))
        counts, means, variances = torch.split(_of_all(own), [1, x.shape[1], x.shape[1]], dim=1)
        total = counts.sum()
        share = counts / total
        mean = (share * means).sum(0)
        # Deviations from the common mean, not a difference of two large squares (Chan and others, 1979).
        var = (share * (variances + (means - mean).square())).sum(0)
        ctx.save_for_backward(x, weight, mean, (var + eps).rsqrt(), total)
        normal = functional.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)
        ctx.mark_non_differentiable(mean, var, total)
        return normal, mean, var, total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, scale, total = ctx.saved_tensors
        gradient = gradients[0]
        shape = (1, -1, 1, 1)
        plain = gradient.sum((0, 2, 3))
        along = (gradient * x).sum((0, 2, 3)) - mean * plain
        mean_plain, mean_along = _of_all(torch.stack((plain, along))).sum(0) / total
        # dx = w·s·(g − mean(g) − x̂·mean(g·x̂)), gathered into one multiple of g, one of x and a constant.
        outer = weight * scale
        slope = -outer * scale.square() * mean_along
        constant = -outer * mean_plain - slope * mean
        back = torch.addcmul(constant.view(shape), gradient, outer.view(shape))
        back.addcmul_(x, slope.view(shape))
        return back, along * scale, plain, None


def _of_all(own: Tensor) -> Tensor:
    """The same of every process, `[processes, …]`; for so few numbers gloo's all_reduce takes three times as long."""
    parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, own)
    return torch.stack(parts)
