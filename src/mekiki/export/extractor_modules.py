"""Eyes as modules that can be written down: photographs of one size in, the views of `mekiki.judging` out."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from mekiki.embedder import Embedder
from mekiki.errors import InputError
from mekiki.export.resizing import Resizing
from mekiki.judging.anomaly_map import quadrant_slices
from mekiki.judging.extractors import BackboneExtractor, EmbedderExtractor, ScatteringExtractor
from mekiki.judging.features import FeatureExtractor
from mekiki.models.backbone import Backbone, Size
from mekiki.models.scattering import SIDE, FilterBank
from mekiki.models.tuned_backbone import TunedBackbone

REDUCING_GAP = 2.0
"""With which photographs are brought to the size they are read at; see `mekiki.data.decoding`."""


class Seeing(nn.Module):
    """A photograph as decoded, to the views that an eye has of it.

    Args:
        extractor: what the run looks with.
        size: height and width of the photographs.

    Shapes: uint8 `[N, H, W]`, or in colour `[N, H, W, 3]` → float32 `[N, d]` each. An eye of one channel takes no
    colours; for an eye of three, a grey photograph is one of three equal channels.

    Example:
        >>> seeing = Seeing(ScatteringExtractor(), (120, 90))
        >>> {name: view.shape for name, view in seeing(torch.zeros(2, 120, 90, 3, dtype=torch.uint8)).items()}
        {'filters': torch.Size([2, 3528])}
    """

    def __init__(self, extractor: FeatureExtractor, size: tuple[int, int]) -> None:
        super().__init__()
        frame = extractor.frame(*size)
        self.frame = Resizing(size, frame, reducing_gap=REDUCING_GAP)
        self.features = _sight(extractor, frame)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """The views of a batch, by name."""
        if pixels.ndim == 3:
            pixels = pixels.unsqueeze(3)
        views: dict[str, Tensor] = self.features(self.frame(pixels.int()))
        return views


def _sight(extractor: FeatureExtractor, frame: tuple[int, int]) -> nn.Module:
    if isinstance(extractor, ScatteringExtractor):
        return FilterSight(frame)
    if isinstance(extractor, BackboneExtractor):
        return BackboneSight(extractor, frame)
    if isinstance(extractor, EmbedderExtractor):
        return EmbedderSight(extractor.embedder, frame)
    raise InputError(f"what the run looks with ({extractor.name}) cannot be exported")


class FilterSight(nn.Module):
    """What `ScatteringExtractor` sees; int32 `[N, h, w, 3]` → `{"filters": [N, 3528]}`."""

    def __init__(self, frame: tuple[int, int]) -> None:
        super().__init__()
        self.squeeze = Resizing(frame, (SIDE, SIDE))
        self.filters = _GraphBank()

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """The view; in grey photographs of three channels those of colour come out as the zeros they are."""
        pixels = _plain(self.squeeze(pixels))
        return {"filters": pool_quadrants(self.filters(pixels, coloured=pixels.ndim == 4))}


class _GraphBank(FilterBank):
    """The filters, with means over places as products with matrices: as a graph, the other way is long and slow."""

    def pool_places(self, maps: Tensor, grid: tuple[int, int]) -> Tensor:
        down, across = (_means(old, new) for old, new in zip(maps.shape[2:], grid, strict=True))
        return (down @ maps) @ across.T.contiguous()


def _means(given: int, wanted: int) -> Tensor:
    """The matrix of adaptive pooling: `[wanted, given]`."""
    matrix = torch.zeros(wanted, given)
    for place in range(wanted):
        first, last = place * given // wanted, -(-(place + 1) * given // wanted)
        matrix[place, first:last] = 1 / (last - first)
    return matrix


class BackboneSight(nn.Module):
    """What `BackboneExtractor` sees: its layers, and the first of them once more where proportions are kept."""

    def __init__(self, extractor: BackboneExtractor, frame: tuple[int, int]) -> None:
        super().__init__()
        looks = extractor.passes()
        self.network = extractor.backbone.model
        self.backbone = extractor.backbone
        self.looks = nn.ModuleList(_Look(extractor.backbone, frame, size) for _, size, _ in looks)
        self.layers = [layers for layers, _, _ in looks]
        self.said = [said for _, _, said in looks]

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """The views by name."""
        views: dict[str, Tensor] = {}
        for look, layers, said in zip(self.looks, self.layers, self.said, strict=True):
            grids = self.backbone.hidden_states.traceable_grids(look(pixels), layers)
            views |= {f"layer {layer}{said}": pool_quadrants(grid) for layer, grid in grids.items()}
        return views


class EmbedderSight(nn.Module):
    """What `EmbedderExtractor` sees: the vector of a trained embedder, whatever its encoder."""

    def __init__(self, embedder: Embedder, frame: tuple[int, int]) -> None:
        super().__init__()
        self.backbone: Backbone | None = embedder.backbone_
        network = copy.deepcopy(embedder.encoder_).cpu() if self.backbone is None else embedder.encoder_
        self.tuned = isinstance(network[0], TunedBackbone)
        self.network = network[1:] if self.tuned else network
        if self.backbone is not None:
            self.body = self.backbone.model
            size = embedder.backbone_size
            self.layer = self.backbone.default_layer
            self.look = (
                _SmoothLook(self.backbone, frame, size) if self.tuned else _Look(self.backbone, frame, size)
            )

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """The view."""
        if self.backbone is not None:
            seen = self.backbone.hidden_states.traceable_grids(self.look(pixels), [self.layer])[
                self.layer
            ].mean((1, 2))
        else:
            seen = _plain(pixels)
        return {"embedding": self.network(seen)}


class _Look(nn.Module):
    """Photographs as a frozen backbone takes them, resized by Pillow."""

    def __init__(self, backbone: Backbone, frame: tuple[int, int], size: Size) -> None:
        super().__init__()
        self.prepare, self.target = backbone.prepare, backbone.target(size, *frame)
        self.resize = Resizing(frame, self.target, self.prepare.resample)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.prepare.batch(_plain(self.resize(pixels)), self.target)


class _SmoothLook(nn.Module):
    """The same for a backbone that was fine-tuned: resized by torch, which rounds nowhere.

    That is linear, so what it does to an image of zeros with one 1 tells it all: a matrix for the rows, one for the
    columns.
    """

    down: Tensor
    across: Tensor

    def __init__(self, backbone: Backbone, frame: tuple[int, int], size: Size) -> None:
        super().__init__()
        self.prepare, self.frame = backbone.prepare, frame
        target = backbone.target(size, *frame)
        mode = "bicubic" if self.prepare.resample == 3 else "bilinear"
        for name, old, new in (("down", frame[0], target[0]), ("across", frame[1], target[1])):
            lines = functional.interpolate(
                torch.eye(old)[None, None], size=(new, old), mode=mode, antialias=True
            )
            self.register_buffer(name, lines[0, 0] if new != old else torch.eye(old))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.down @ (self.prepare.batch(_plain(pixels), self.frame) @ self.across.T)


def _plain(pixels: Tensor) -> Tensor:
    """Grey photographs without their single channel, as the rest of the house has them."""
    return pixels.squeeze(3) if pixels.shape[3] == 1 else pixels


def pool_quadrants(grid: Tensor) -> Tensor:
    """`mekiki.judging.anomaly_map.pool_quadrants` for a graph: `[N, h, w, d]` → `[N, 8d]`.

    Example:
        >>> pool_quadrants(torch.arange(4.0).reshape(1, 2, 2, 1)).tolist()
        [[0.0, 1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0]]
    """
    means, spreads = [], []
    for rows in quadrant_slices(grid.shape[1]):
        for columns in quadrant_slices(grid.shape[2]):
            part = grid[:, rows, columns]
            mean = part.mean((1, 2), keepdim=True)
            means.append(mean[:, 0, 0])
            spreads.append(((part - mean) ** 2).mean((1, 2)).sqrt())
    return torch.cat(means + spreads, dim=1)
