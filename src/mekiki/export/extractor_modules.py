"""Feature extractors as modules that torch can trace: decoded photographs of one size → feature groups."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from mekiki.errors import InputError
from mekiki.export.resizing import Resizing
from mekiki.judging.anomaly_map import quadrant_slices
from mekiki.judging.extractors import BackboneExtractor, EmbedderExtractor, ScatteringExtractor
from mekiki.judging.features import FeatureExtractor
from mekiki.judging.judge_model import FINE, PATCHES
from mekiki.judging.patch_grid import join_layers
from mekiki.models.backbone import Backbone, Size
from mekiki.models.networks import place_tensors
from mekiki.models.scattering import SIDE, FilterBank
from mekiki.models.tuned_backbone import TunedBackbone

REDUCING_GAP = 2.0
"""With which photographs are brought to the size they are read at; see `mekiki.data.decoding`."""


class ExtractorModule(nn.Module):
    """A feature extractor behind the resizing that photographs get when they are read.

    Args:
        extractor: one of `MODULES`.
        size: height and width of the photographs.

    Shapes: uint8 `[N, H, W]`, or in colour `[N, H, W, 3]` → float32 `[N, d]` by feature group. An extractor of one
    channel takes no colours; for one of three, a grey photograph has three equal channels.

    Raises:
        InputError: there is no module for this kind of extractor.

    Example:
        >>> module = ExtractorModule(ScatteringExtractor(), (120, 90))
        >>> {name: group.shape for name, group in module(torch.zeros(2, 120, 90, 3, dtype=torch.uint8)).items()}
        {'filters': torch.Size([2, 3528]), 'patches': torch.Size([2, 10, 10, 441])}
    """

    def __init__(self, extractor: FeatureExtractor, size: tuple[int, int]) -> None:
        super().__init__()
        make = MODULES.get(type(extractor))
        if make is None:
            raise InputError(f"the feature extractor of the run ({extractor.name}) cannot be exported")
        frame = extractor.frame(*size)
        self.frame = Resizing(size, frame, reducing_gap=REDUCING_GAP)
        if isinstance(extractor, BackboneExtractor | ScatteringExtractor) and extractor.fine is not None:
            self.features: nn.Module = FineModule(extractor, frame, make)
        else:
            self.features = make(extractor, frame)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """The feature groups of a batch, by name."""
        if pixels.ndim == 3:
            pixels = pixels.unsqueeze(3)
        groups: dict[str, Tensor] = self.features(self.frame(pixels.int()))
        return groups


class FineModule(nn.Module):
    """The fine scale beside the groups of the coarse one: int32 `[N, h, w, C]` → groups by name."""

    def __init__(
        self,
        extractor: BackboneExtractor | ScatteringExtractor,
        frame: tuple[int, int],
        make: Callable[..., nn.Module],
    ) -> None:
        super().__init__()
        assert extractor.fine is not None
        coarse = extractor.coarse_frame(*frame)
        self.resize, self.features = (
            Resizing(frame, coarse, reducing_gap=REDUCING_GAP),
            make(extractor, coarse),
        )
        self.fine = copy.copy(extractor.fine)
        self.fine.network = copy.copy(extractor.fine.network)
        self.fine.network.traced = True
        # Tensors of a graph must belong to a module.
        self.novelty, self.network = self.fine.novelty, self.fine.network

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """The groups."""
        groups: dict[str, Tensor] = self.features(self.resize(pixels))
        return groups | {FINE: self.fine(_drop_single_channel(pixels))}


class ScatteringModule(nn.Module):
    """`ScatteringExtractor`: int32 `[N, h, w, C]` → `{"filters": [N, 3528], "patches": …}`."""

    def __init__(self, extractor: ScatteringExtractor, frame: tuple[int, int]) -> None:
        super().__init__()
        self.name = extractor.name
        self.squeeze = Resizing(frame, (SIDE, SIDE))
        self.filters = _TracedFilterBank()

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """The groups; in grey photographs of three channels those of colour come out as the zeros they are."""
        pixels = _drop_single_channel(self.squeeze(pixels))
        grid = self.filters(pixels, coloured=pixels.ndim == 4)
        return {self.name: pool_quadrants(grid), PATCHES: join_layers([grid])}


class _TracedFilterBank(FilterBank):
    """The filters, with means over places as matrix products: as a graph, adaptive pooling is long and slow."""

    def pool_places(self, maps: Tensor, grid: tuple[int, int]) -> Tensor:
        down, across = (_pooling_matrix(old, new) for old, new in zip(maps.shape[2:], grid, strict=True))
        return (down @ maps) @ across.T.contiguous()


def _pooling_matrix(given: int, wanted: int) -> Tensor:
    """The matrix of adaptive mean pooling: `[wanted, given]`."""
    matrix = torch.zeros(wanted, given)
    for place in range(wanted):
        first, last = place * given // wanted, -(-(place + 1) * given // wanted)
        matrix[place, first:last] = 1 / (last - first)
    return matrix


class BackboneModule(nn.Module):
    """`BackboneExtractor`: its layers and patches, and the first layer once more where proportions are kept."""

    def __init__(self, extractor: BackboneExtractor, frame: tuple[int, int]) -> None:
        super().__init__()
        passes = extractor.passes()
        self.network, self.backbone = extractor.backbone.model, extractor.backbone
        self.inputs = nn.ModuleList(_FrozenInput(extractor.backbone, frame, size) for _, size, _ in passes)
        self.layers = [layers for layers, _, _ in passes]
        self.suffixes = [suffix for _, _, suffix in passes]
        self.patch_layers = extractor.patch_layers

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """The groups by name."""
        groups: dict[str, Tensor] = {}
        for prepare, layers, suffix in zip(self.inputs, self.layers, self.suffixes, strict=True):
            first = PATCHES not in groups
            read = sorted({*layers, *(self.patch_layers if first else ())})
            grids = self.backbone.hidden_states.traceable_grids(prepare(pixels), read)
            groups |= {f"layer {layer}{suffix}": pool_quadrants(grids[layer]) for layer in layers}
            if first:
                groups[PATCHES] = join_layers([grids[layer] for layer in self.patch_layers])
        return groups


class EmbedderModule(nn.Module):
    """`EmbedderExtractor`: the vector of a trained embedder, whatever its encoder."""

    def __init__(self, extractor: EmbedderExtractor, frame: tuple[int, int]) -> None:
        super().__init__()
        embedder = extractor.embedder
        self.backbone: Backbone | None = embedder.backbone_
        network = copy.deepcopy(embedder.encoder_).cpu() if self.backbone is None else embedder.encoder_
        self.has_places = extractor.has_place_features
        tuned = isinstance(network[0], TunedBackbone)
        self.network = network[1:] if tuned else network
        if self.backbone is not None:
            self.body, self.layer = self.backbone.model, self.backbone.default_layer
            prepare = _TunedInput if tuned else _FrozenInput
            self.prepare = prepare(self.backbone, frame, embedder.backbone_size)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """The groups."""
        if self.backbone is None:
            pixels = _drop_single_channel(pixels)
            groups = {"embedding": self.network(pixels)}
            if self.has_places:
                groups[PATCHES] = join_layers([place_tensors(self.network, pixels).permute(0, 2, 3, 1)])
            return groups
        grid = self.backbone.hidden_states.traceable_grids(self.prepare(pixels), [self.layer])[self.layer]
        return {"embedding": self.network(grid.mean((1, 2)))}


class _FrozenInput(nn.Module):
    """Photographs as a frozen backbone takes them, resized as Pillow does it."""

    def __init__(self, backbone: Backbone, frame: tuple[int, int], size: Size) -> None:
        super().__init__()
        self.prepare, self.target = backbone.prepare, backbone.target(size, *frame)
        self.resize = Resizing(frame, self.target, self.prepare.resample)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.prepare.batch(_drop_single_channel(self.resize(pixels)), self.target)


class _TunedInput(nn.Module):
    """Photographs as a fine-tuned backbone takes them, resized by torch, which does not round.

    That is linear, so resizing the unit matrix gives the matrix for the rows and the one for the columns.
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
        return self.down @ (self.prepare.batch(_drop_single_channel(pixels), self.frame) @ self.across.T)


MODULES: dict[type, Callable[..., nn.Module]] = {
    ScatteringExtractor: ScatteringModule,
    BackboneExtractor: BackboneModule,
    EmbedderExtractor: EmbedderModule,
}
"""The module of each kind of feature extractor, made from the extractor and the size that photographs are read at."""


def _drop_single_channel(pixels: Tensor) -> Tensor:
    """Grey photographs as `[N, H, W]`, as the rest of the program has them."""
    return pixels.squeeze(3) if pixels.shape[3] == 1 else pixels


def pool_quadrants(grid: Tensor) -> Tensor:
    """`mekiki.judging.anomaly_map.pool_quadrants` for tensors: `[N, h, w, d]` → `[N, 8d]`.

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
