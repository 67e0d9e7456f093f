"""What `FineScale` runs over the tiles of a large photograph: an early layer of a backbone, or filters."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from mekiki.models.backbone import Backbone
from mekiki.models.scattering import COLOURS, DARK, FilterBank

LONGEST_TILE = 448
"""Side in pixels of a tile without its margins, at most, where the network takes any size."""
CONVOLUTION_UNIT = 32
"""Sides of tiles of a convolutional network are a multiple of it: most halve their grid five times."""


class BackboneTiles:
    """One layer of a backbone; see `TileNetwork`.

    A transformer takes tiles of the size it was trained at.

    Args:
        backbone: the pretrained network.
        layer: number of the hidden state.
    """

    def __init__(self, backbone: Backbone, layer: int) -> None:
        self.backbone, self.layer, self.traced = backbone, layer, False
        states = backbone.hidden_states
        if states.convolutional:
            self.unit = self.margin = CONVOLUTION_UNIT
            self.longest = LONGEST_TILE
        else:
            self.unit = self.margin = math.lcm(*states.multiple)
            self.longest = max(self.unit, min(backbone.input_size) // self.unit * self.unit - 2 * self.margin)
        side = self.unit + 2 * self.margin
        with torch.inference_mode():
            grid = self(torch.zeros(1, side, side, dtype=torch.uint8))
        self.stride = side // grid.shape[1]

    def __call__(self, tiles: Tensor) -> Tensor:
        """Features `[N, h, w, c]`."""
        prepared = self.backbone.prepare.batch(tiles, (tiles.shape[1], tiles.shape[2]))
        states = self.backbone.hidden_states
        grids = states.traceable_grids if self.traced else states.grids
        return grids(prepared.to(self.backbone.device), [self.layer])[self.layer].float().cpu()


class FilterTiles(FilterBank):
    """The first layer of the filters at the smallest scales, a place for every 8 pixels; see `TileNetwork`.

    Energies of brightness in 6 orientations at 3 scales, and of both channels of colour at one: they hardly depend on
    the light.
    """

    unit, margin, longest, stride = 32, 32, LONGEST_TILE, 8
    traced = False

    def forward(self, pixels: Tensor, coloured: bool | None = None) -> Tensor:
        """Features `[N, h, w, 30]`; those of colour are 0 in grey photographs."""
        light = pixels.float() / 255
        red, green, blue = light.unbind(3) if pixels.ndim == 4 else (light,) * 3
        brightness = torch.log(0.299 * red + 0.587 * green + 0.114 * blue + DARK)[:, None]
        if coloured is None:
            coloured = self.traced or bool(((red != green) | (green != blue)).any())
        maps = [self._pool(brightness, 4)]
        half = self._halve(brightness)
        maps += [self._pool(half, 2), self._pool(self._halve(half), 1)]
        if coloured:
            logs = [torch.log(each + DARK) for each in (red, green, blue)]
            against = torch.stack((logs[0] - logs[1], logs[2] - (logs[0] + logs[1]) / 2), dim=1)
            maps.append(self._pool(self._halve(against), 2))
        else:  # what the filters would give too, in less time
            maps.append(torch.zeros_like(maps[0]).repeat(1, COLOURS, 1, 1))
        return torch.cat(maps, 1).permute(0, 2, 3, 1)

    def _pool(self, maps: Tensor, side: int) -> Tensor:
        """Logarithms of energies averaged over squares."""
        return functional.avg_pool2d(self._energies(maps), side).log1p()
