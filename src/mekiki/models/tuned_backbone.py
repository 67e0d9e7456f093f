"""A backbone whose weights are trained: the first part of an encoder that is fine-tuned."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mekiki.models.backbone import Backbone, Size


class TunedBackbone(nn.Module):
    """Stored photographs in, whole-image vectors of one layer out, with a gradient.

    The network stays in its evaluation mode while its weights move: the running statistics of its batch normalisation
    come from a million photographs, and a batch of a few dozen would only spoil them.

    Vectors that are features already pass unchanged, for the head behind to be trained on them alone.

    Args:
        backbone: its network is trained in place; what lies behind the layer is not, because nothing comes of it.
        layer: the hidden state that goes on to the head.
        size: what images are squeezed to; see `Backbone.extract`.

    Shapes: `[B, H, W]` or `[B, H, W, 3]`, uint8 or float32 0…255, → `[B, d]`; `[B, d]` → the same.
    """

    block = 8
    """Images a batch in `mekiki.models.networks.embed`: with more, activations fill the memory."""

    def __init__(self, backbone: Backbone, layer: int, size: Size) -> None:
        super().__init__()
        self.model, self.backbone, self.layer, self.size = backbone.model, backbone, layer, size
        # Plain in memory: a checkpoint keeps Adam's moments so, and it takes them for the weights number by number.
        self.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def forward(self, stored: Tensor) -> Tensor:
        """Features of a batch; see the class for shapes."""
        if stored.ndim == 2:
            return stored
        target = self.backbone.target(self.size, stored.shape[1], stored.shape[2])
        return self.backbone.pooled_features(self.backbone.prepare.batch(stored, target), self.layer)

    def train(self, mode: bool = True) -> TunedBackbone:
        """Stays in evaluation mode, whatever is asked."""
        return super().train(False)

    def awaken(self, stored: Tensor) -> None:
        """Let those weights learn that the layer depends on, found by one pass over `stored`."""
        for parameter in self.model.parameters():
            parameter.requires_grad_(True)
        self(stored).sum().backward()
        for parameter in self.model.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None
