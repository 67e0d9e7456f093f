"""Networks: encoders of images, and the Siamese, triplet and classification networks around them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mekiki.console import Progress, silent
from mekiki.errors import InputError, not_known
from mekiki.threads import adaptive_threads

EMBED_BLOCK = 256
"""Examples a block in `embed`, unless they are large."""
EMBED_NUMBERS = 2**24
"""Numbers a block in `embed` at most: 64 MB of float32 before the first layer."""

HIDDEN_DIM = 32
"""Length of the vector before the head of a `VGGEmbeddingNet` of fewer dimensions."""

InputShape = tuple[int, ...]
"""Shape of one example: `(features,)`, or `(channels, height, width)` for an image."""


class Standardise(nn.Module):
    """Turn stored examples into what a network takes: float32, about zero mean and unit standard deviation.

    Images come as they are stored, `[B, H, W]` or `[B, H, W, 3]` (uint8 0…255 or float), and leave as
    `[B, C, H, W]`; feature rows `[B, features]` keep their shape. Mean and standard deviation are buffers, saved
    with the weights, so that every image is prepared as the training images were.

    Args:
        input_shape: shape of one example as the network takes it.
        mean: one number a channel (or a feature), in the units of the stored examples.
        std: the same for the standard deviation; zero (a constant) is taken as one.

    Example:
        >>> prepare = Standardise((1, 2, 2), mean=[127.5], std=[127.5])
        >>> prepare(torch.tensor([[[0, 255], [255, 0]]], dtype=torch.uint8)).tolist()
        [[[[-1.0, 1.0], [1.0, -1.0]]]]
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, input_shape: InputShape, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.input_shape = tuple(input_shape)
        deviation = torch.tensor(std, dtype=torch.float64)
        deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
        scale = 1 / deviation
        shift = -torch.tensor(mean, dtype=torch.float64) * scale
        trailing = (1,) * (len(self.input_shape) - 1)
        self.register_buffer("scale", scale.float().view(-1, *trailing))
        self.register_buffer("shift", shift.float().view(-1, *trailing))

    def forward(self, stored: Tensor) -> Tensor:
        """Standardise a batch as stored; see the class for shapes."""
        if stored.ndim == 4:
            stored = stored.permute(0, 3, 1, 2)
        elif stored.ndim == 3:
            stored = stored.unsqueeze(1)
        # In place on the copy that bytes need anyway; float32 examples belong to the caller.
        numbers = stored.mul(self.scale) if stored.dtype == torch.float32 else stored.float().mul_(self.scale)
        return numbers.add_(self.shift)


class EmbeddingNet(nn.Module):
    """The post's perceptron: input – 256 – ReLU – 256 – ReLU – `dim`.

    Args:
        input_shape: shape of one example; an image is flattened.
        dim: length of the embedding.
        hidden: units in each of the two hidden layers.
        normalise: divide each vector by its length, so that vectors lie on the unit sphere.

    Shapes: `[B, *input_shape]` → `[B, dim]`.

    Example:
        >>> net = EmbeddingNet((1, 28, 28), dim=2)
        >>> net(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self, input_shape: InputShape, dim: int = 2, *, hidden: int = 256, normalise: bool = False
    ) -> None:
        super().__init__()
        self.input_shape, self.dim, self.normalise = tuple(input_shape), dim, normalise
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(input_shape), hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, dim),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Embed a batch: `[B, *input_shape]` → `[B, dim]`."""
        vectors: Tensor = self.layers(x)
        return functional.normalize(vectors) if self.normalise else vectors


class ConvEmbeddingNet(nn.Module):
    """Convolutions, each halving the image until no side exceeds 7 pixels, then 256 – `dim`; PReLU throughout.

    At 28 × 28 that is two convolutions (32 and 64 filters), in the spirit of the net of Adam Bielski's
    *siamese-triplet*; a larger image gets more of them, so that the dense part does not grow with it. All sizes
    are fixed by `input_shape`: nothing adapts at run time, which keeps the network exportable.

    Args:
        input_shape: `(channels, height, width)`, each side at least 4 pixels.
        dim: length of the embedding.
        normalise: divide each vector by its length.

    Raises:
        InputError: `input_shape` is not an image, or is smaller than 4 × 4.

    Example:
        >>> ConvEmbeddingNet((3, 64, 48), dim=16)(torch.zeros(2, 3, 64, 48)).shape
        torch.Size([2, 16])
    """

    def __init__(self, input_shape: InputShape, dim: int = 2, *, normalise: bool = False) -> None:
        super().__init__()
        _check_image("conv", input_shape, least=4)
        self.input_shape, self.dim, self.normalise = tuple(input_shape), dim, normalise
        channels, height, width = input_shape
        layers: list[nn.Module] = []
        filters = 32
        while not layers or max(height, width) > 7:
            layers += [
                nn.Conv2d(channels, filters, 5, padding=2),
                nn.PReLU(),
                nn.MaxPool2d(2, ceil_mode=True),
            ]
            channels, filters = filters, 64
            height, width = math.ceil(height / 2), math.ceil(width / 2)
        self.convolutions = nn.Sequential(*layers)
        self.dense = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * height * width, 256),
            nn.PReLU(),
            nn.Linear(256, 256),
            nn.PReLU(),
            nn.Linear(256, dim),
        )
        # Channels last in memory: on a processor the convolutions then run up to 1.6 times faster.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Embed a batch: `[B, C, H, W]` → `[B, dim]`."""
        vectors: Tensor = self.dense(self.convolutions(x.contiguous(memory_format=torch.channels_last)))
        return functional.normalize(vectors) if self.normalise else vectors


class VGGEmbeddingNet(nn.Module):
    """Convolutions of 3 × 3 with batch normalisation, halving the image until no side exceeds 4 pixels, then `dim`.

    The first convolution (5 × 5) already halves the image, since most of the work lies where it is large: at 28 × 28
    an image costs 4.7 million multiplications (`ConvEmbeddingNet`: 11.5 million), in twice as many layers.

    Fewer than 32 dimensions come out of a hidden vector of 32 through a small perceptron; losses that choose inside a
    batch are computed on the hidden vector too (see `DeeplySupervisedNet`), because in two dimensions alone classes
    block each other while they are separated.

    After Simonyan and Zisserman, *Very Deep Convolutional Networks* (2014), and Ioffe and Szegedy, *Batch
    Normalization* (2015). All sizes are fixed by `input_shape`.

    Args:
        input_shape: `(channels, height, width)`, each side at least 8 pixels.
        dim: length of the embedding.
        normalise: divide each vector by its length.

    Raises:
        InputError: `input_shape` is not an image, or is smaller than 8 × 8.

    Example:
        >>> VGGEmbeddingNet((3, 64, 48), dim=16).eval()(torch.zeros(2, 3, 64, 48)).shape
        torch.Size([2, 16])
    """

    def __init__(self, input_shape: InputShape, dim: int = 2, *, normalise: bool = False) -> None:
        super().__init__()
        _check_image("vgg", input_shape, least=8)
        self.input_shape, self.dim, self.normalise = tuple(input_shape), dim, normalise
        channels, height, width = input_shape
        layers = [*convolution(channels, 24, kernel=5, stride=2), *convolution(24, 32)]
        height, width, filters = math.ceil(height / 2), math.ceil(width / 2), 32
        while max(height, width) > 4:
            layers.append(nn.MaxPool2d((min(height, 2), min(width, 2))))
            height, width = max(1, height // 2), max(1, width // 2)
            if max(height, width) > 4:
                layers += [*convolution(filters, 64), *convolution(64, 64)]
                filters = 64
        layers += convolution(filters, 96)
        self.convolutions = nn.Sequential(*layers)
        self.dense = nn.Sequential(nn.Flatten(), nn.Linear(96 * height * width, max(dim, HIDDEN_DIM)))
        self.head = (
            nn.Identity()
            if dim >= HIDDEN_DIM
            else nn.Sequential(nn.Linear(HIDDEN_DIM, 128), nn.ReLU(inplace=True), nn.Linear(128, dim))
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def hidden(self, x: Tensor) -> Tensor:
        """The vectors before the head: `[B, C, H, W]` → `[B, max(dim, 32)]`."""
        vectors: Tensor = self.dense(self.convolutions(x.contiguous(memory_format=torch.channels_last)))
        return vectors

    def forward(self, x: Tensor) -> Tensor:
        """Embed a batch: `[B, C, H, W]` → `[B, dim]`."""
        return self.embed_hidden(self.hidden(x))

    def embed_hidden(self, hidden: Tensor) -> Tensor:
        """From the hidden vectors to the embedding: `[B, max(dim, 32)]` → `[B, dim]`."""
        vectors: Tensor = self.head(hidden)
        return functional.normalize(vectors) if self.normalise else vectors


def _check_image(encoder: str, input_shape: InputShape, *, least: int) -> None:
    if len(input_shape) != 3 or min(input_shape[1:]) < least:
        raise InputError(
            f"encoder {encoder!r} needs images of at least {least} × {least} pixels, not examples of shape "
            f"{list(input_shape)}; use encoder 'mlp'"
        )


def convolution(channels: int, filters: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    """The layers of one convolution: it, batch normalisation, ReLU."""
    return [
        nn.Conv2d(channels, filters, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(filters),
        nn.ReLU(inplace=True),
    ]


class DeeplySupervisedNet(nn.Module):
    """Network that returns its hidden vector beside the embedding, so that a loss can be computed on both in training.

    After Lee, Xie, Gallagher, Zhang and Tu, *Deeply-Supervised Nets* (2015).

    Example:
        >>> net = DeeplySupervisedNet(nn.Sequential(nn.Identity(), VGGEmbeddingNet((1, 28, 28), dim=2)))
        >>> [vectors.shape[1] for vectors in net(torch.zeros(2, 1, 28, 28))]
        [2, 32]
    """

    def __init__(self, encoder: nn.Sequential) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding and hidden vector of a batch as stored: `[B, …]` → `[B, dim]`, `[B, 32]`."""
        net = self.encoder[1]
        assert isinstance(net, VGGEmbeddingNet)
        hidden = net.hidden(self.encoder[0](x))
        return net.embed_hidden(hidden), hidden


def deeply_supervised(encoder: nn.Module) -> nn.Module:
    """The encoder as `DeeplySupervisedNet` if it has a separate hidden vector, else itself."""
    net = encoder[-1] if isinstance(encoder, nn.Sequential) else encoder
    if isinstance(encoder, nn.Sequential) and isinstance(net, VGGEmbeddingNet) and net.dim < HIDDEN_DIM:
        return DeeplySupervisedNet(encoder)
    return encoder


ENCODERS: dict[str, Callable[..., EmbeddingNet | ConvEmbeddingNet | VGGEmbeddingNet]] = {
    "mlp": EmbeddingNet,
    "conv": ConvEmbeddingNet,
    "vgg": VGGEmbeddingNet,
}
"""The encoders by the names that `Embedder` and the command line use."""


def build_encoder(
    name: str,
    input_shape: InputShape,
    dim: int,
    *,
    normalise: bool,
    mean: Sequence[float],
    std: Sequence[float],
) -> nn.Sequential:
    """Standardisation and an embedding network as one module: stored examples in, vectors out.

    Example:
        >>> encoder = build_encoder("mlp", (1, 8, 8), 2, normalise=False, mean=[0.0], std=[255.0])
        >>> encoder(torch.zeros(3, 8, 8, dtype=torch.uint8)).shape
        torch.Size([3, 2])
    """
    if name not in ENCODERS:
        raise not_known("encoder", name, ENCODERS)
    return nn.Sequential(
        Standardise(input_shape, mean, std), ENCODERS[name](input_shape, dim, normalise=normalise)
    )


def block_length(encoder: nn.Module) -> int:
    """How many examples `embed` takes at a time: always the same for one encoder."""
    for module in encoder.modules():
        own = getattr(module, "block", None)
        if isinstance(
            own, int
        ):  # a pretrained network, which needs far more memory for an image than its pixels
            return own
        if isinstance(module, Standardise):
            return max(1, min(EMBED_BLOCK, EMBED_NUMBERS // math.prod(module.input_shape)))
    return EMBED_BLOCK


@torch.inference_mode()
def embed(
    encoder: nn.Module,
    stored: Tensor | NDArray[Any],
    progress: Progress = silent,
    *,
    length: int | None = None,
) -> Tensor:
    """Vectors of stored examples: `[N, …]` → float32 `[N, d]` on the processor, in blocks of fixed size.

    A last block that is not full is padded. The matrix products then have one shape whatever N is, so an image gets
    the same vector alone and among thousands.

    Args:
        encoder: takes `[B, …]` as stored; its own device is used.
        stored: tensor, array or memory map; only a block at a time is read.
        progress: called after each block.
        length: examples a block; `None` is what is fastest for many. Another length may give other last digits.

    Example:
        >>> encoder = build_encoder("mlp", (1, 4, 4), 2, normalise=False, mean=[0.0], std=[255.0])
        >>> images = torch.randint(0, 256, (300, 4, 4), dtype=torch.uint8)
        >>> bool((embed(encoder, images)[7:8] == embed(encoder, images[7:8])).all())
        True
    """
    encoder.eval()
    device = next(encoder.parameters()).device
    length = length or block_length(encoder)
    # One array from the start: small results kept one by one would lie between the blocks and hold their memory.
    vectors = torch.empty(0)
    with adaptive_threads() as consider:
        for start in range(0, len(stored), length):
            consider()
            piece = stored[start : start + length]
            # A copy, because a memory map may be read-only, which torch does not know.
            block = (piece if isinstance(piece, Tensor) else torch.from_numpy(np.array(piece))).to(device)
            real = len(block)
            if real < length:
                block = torch.cat((block, block[-1:].expand(length - real, *block.shape[1:])))
            made = encoder(block)[:real]
            if start == 0:
                vectors = torch.empty((len(stored), *made.shape[1:]))
            vectors[start : start + real] = made
            progress("embedding", start + real, len(stored))
    return vectors


LEAST_PLACES = 6
"""Rows and columns that the maps of `place_maps` have at least, where the network has any as large."""


def has_place_maps(encoder: nn.Module) -> bool:
    """Whether an encoder has convolutions of its own, which see place by place."""
    return isinstance(encoder, nn.Sequential) and isinstance(encoder[-1], ConvEmbeddingNet | VGGEmbeddingNet)


@torch.inference_mode()
def place_maps(encoder: nn.Module, stored: NDArray[Any]) -> NDArray[np.float32]:
    """Feature maps of a convolutional encoder: its deepest of at least `LEAST_PLACES` rows and columns.

    The maps one size larger are appended, max-pooled to the same grid: the deepest contain more of what something is,
    those before them of how far it extends.

    Args:
        encoder: as `build_encoder` makes it; one of `has_place_maps`.
        stored: images as stored, `[N, …]`.

    Returns:
        Float32 `[N, h, w, c]`.

    Example:
        >>> encoder = build_encoder("vgg", (1, 64, 64), 8, normalise=False, mean=[0.0], std=[255.0])
        >>> place_maps(encoder, np.zeros((2, 64, 64), np.uint8)).shape
        (2, 8, 8, 128)
    """
    encoder.eval()
    device = next(encoder.parameters()).device
    found = [  # one by one: an image has the same maps alone and among others
        place_tensors(encoder, torch.from_numpy(np.array(image[None])).to(device))[0].permute(1, 2, 0)
        for image in stored
    ]
    return np.stack([each.float().cpu().numpy() for each in found])


def place_tensors(encoder: nn.Module, stored: Tensor) -> Tensor:
    """The same maps of a batch as stored, with a gradient: `[B, …]` → `[B, c, h, w]`."""
    assert isinstance(encoder, nn.Sequential)
    prepare, net = encoder[0], encoder[-1]
    assert isinstance(prepare, Standardise) and isinstance(net, ConvEmbeddingNet | VGGEmbeddingNet)
    x = prepare(stored).contiguous(memory_format=torch.channels_last)
    sizes: dict[int, Tensor] = {}  # by rows, the deepest maps of that many
    for layer in net.convolutions:
        x = layer(x)
        if min(x.shape[2:]) < LEAST_PLACES and sizes:
            break
        sizes[x.shape[2]] = x
    *before, deepest = sizes.values()
    maps = [deepest]
    if before:
        maps.append(functional.adaptive_max_pool2d(before[-1], deepest.shape[2:]))
    return torch.cat(maps, dim=1)


class SiameseNet(nn.Module):
    """Two batches through one embedding network.

    Example:
        >>> net = SiameseNet(EmbeddingNet((4,), dim=2))
        >>> first, second = net(torch.zeros(3, 4), torch.ones(3, 4))
        >>> first.shape, second.shape
        (torch.Size([3, 2]), torch.Size([3, 2]))
    """

    def __init__(self, embedding_net: nn.Module) -> None:
        super().__init__()
        self.embedding_net = embedding_net

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Embed both sides of a pair: two `[B, …]` → two `[B, dim]`."""
        # One pass over both: half the calls, and matrix products of twice the height.
        one, two = self.embedding_net(torch.cat((first, second))).chunk(2)
        return one, two


class TripletNet(nn.Module):
    """Anchor, positive and negative through one embedding network.

    Example:
        >>> net = TripletNet(EmbeddingNet((4,), dim=2))
        >>> [v.shape[0] for v in net(torch.zeros(3, 4), torch.ones(3, 4), torch.ones(3, 4))]
        [3, 3, 3]
    """

    def __init__(self, embedding_net: nn.Module) -> None:
        super().__init__()
        self.embedding_net = embedding_net

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embed the three sides of a triplet: three `[B, …]` → three `[B, dim]`."""
        one, two, three = self.embedding_net(torch.cat((anchor, positive, negative))).chunk(3)
        return one, two, three


class ClassificationNet(nn.Module):
    """The plain classifier beside the Siamese network: embedding, PReLU, one linear layer (post 18).

    Its output is the logits `[B, classes]`; log-softmax and the negative log-likelihood are in the loss.

    Example:
        >>> ClassificationNet(EmbeddingNet((4,), dim=2), classes=10)(torch.zeros(3, 4)).shape
        torch.Size([3, 10])
    """

    def __init__(self, embedding_net: nn.Module, classes: int) -> None:
        super().__init__()
        self.embedding_net = embedding_net
        dim = embedding_net[-1].dim if isinstance(embedding_net, nn.Sequential) else embedding_net.dim
        self.nonlinear = nn.PReLU()
        self.final = nn.Linear(int(dim), classes)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch: `[B, …]` → `[B, classes]`."""
        logits: Tensor = self.final(self.nonlinear(self.embedding_net(x)))
        return logits
