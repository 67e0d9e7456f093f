"""A network that needs no weights: oriented filters of several scales, applied twice, fixed by formula.

A convolutional network without training. The first layer responds to edges, lines and grain; the second to how these
are arranged: it filters the first layer's maps as the first filters the photograph. That is the scattering transform of
Bruna and Mallat (2013, doi 10.1109/TPAMI.2012.230), with logarithms before each layer, so that lighting, which
multiplies, and contrast, which multiplies what the first layer sees, shift its input and are taken off by filters that
see no constant.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mekiki.errors import InputError
from mekiki.threads import adaptive_threads

Floats = NDArray[np.float32]

FINGERPRINT = "filters-1"
"""Version of the filters: raise it when a filter or a constant changes, so that kept features are recomputed."""
SIDE = 161
"""Pixels that photographs are squeezed to: 5·2⁵ + 1, so that every second pixel, five times over, is symmetric."""
SCALES = 5
"""The first answers to waves of about 3 pixels, the others of 8, 16, 32 and 64."""
ORIENTATIONS = 6
"""Of the filters, 30° apart; even, so that a turn by 90° exchanges them."""
PLACE = 16
"""Pixels, high and wide, of a place of the maps."""
DARK = 0.05
"""Of full brightness: what is added before its logarithm is taken, for noise in the dark to stay small."""
FAINT = 1e-3
"""Energy below which the logarithm turns into a straight line: about what the rounding to 256 levels brings."""
COLOURS = 2
"""Channels of colour beside brightness."""
CHANNELS = 1 + SCALES * ORIENTATIONS + COLOURS * (1 + (SCALES - 1) * ORIENTATIONS)
CHANNELS += math.comb(SCALES, 2) * ORIENTATIONS**2
_WAVE, _WIDTH, _SLANT, _TAPS = 0.75 * math.pi, 0.8, 0.5, 7


class FilterBank(nn.Module):
    """Both layers of filters, and brightness and colour as they are.

    A filter is a Morlet wavelet: a complex wave under a bell, whose constant part is taken off. The modulus of its
    response is the *energy* of waves of its length and orientation, without regard to where exactly crests lie. Larger
    scales are the same filters on the halved image, and every response is taken at every second pixel.

    The map, float32 `[N, h, w, 441]`, has one place for every `PLACE` pixels. Its channels are

    - 0: log brightness, and 1 … 30 its energies by scale, then orientation;
    - 31 … 80: colour, log R/G and log B against R and G: both as they are, then the energies of the first and of the
      second for each scale but the finest, which cameras and JPEG do not resolve in colour. In grey photographs all
      of these are 0;
    - 81 … 440: for each scale of the second layer, and each smaller one of the first, the energies of the 6 first maps
      in 6 orientations.

    Energies are given as log(1 + energy / `FAINT`). Beyond its border, a photograph goes on as it ends.

    Example:
        >>> FilterBank()(torch.zeros(2, 161, 161, dtype=torch.uint8)).shape
        torch.Size([2, 10, 10, 441])
    """

    waves: Tensor
    blur: Tensor

    def __init__(self) -> None:
        super().__init__()
        found = [morlet(math.pi * turn / ORIENTATIONS) for turn in range(ORIENTATIONS)]
        waves = np.stack([wave.real for wave in found] + [wave.imag for wave in found])
        # In units of FAINT from the start, which saves a division of every energy.
        self.register_buffer("waves", torch.from_numpy((waves / FAINT).astype(np.float32))[:, None])
        binomial = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        self.register_buffer("blur", torch.outer(binomial, binomial)[None, None])

    def forward(self, pixels: Tensor, coloured: bool | None = None) -> Tensor:
        """The map of photographs of one size, uint8 `[N, H, W]` or `[N, H, W, 3]`.

        Args:
            pixels: the photographs.
            coloured: whether to look at colour; `None` looks whether there is any, which a graph cannot.
        """
        colours = pixels.ndim == 4
        light = pixels.float() / 255
        red, green, blue = light.unbind(3) if colours else (light,) * 3
        brightness = torch.log(0.299 * red + 0.587 * green + 0.114 * blue + DARK)[:, None]
        grid = (max(1, pixels.shape[1] // PLACE), max(1, pixels.shape[2] // PLACE))
        edges, patterns = self._brightness(brightness, grid)
        if coloured is None:
            coloured = colours and bool(((red != green) | (green != blue)).any())
        if coloured:
            logs = torch.log(light + DARK).unbind(3)
            against = torch.stack((logs[0] - logs[1], logs[2] - (logs[0] + logs[1]) / 2), dim=1)
            edges += self._colour(against, grid)
        else:  # what the filters would say too, in less time
            edges.append(torch.zeros(pixels.shape[0], COLOURS * (1 + (SCALES - 1) * ORIENTATIONS), *grid))
        return torch.cat(edges + patterns, dim=1).permute(0, 2, 3, 1).contiguous()

    def pool_places(self, maps: Tensor, grid: tuple[int, int]) -> Tensor:
        """The mean of each map in each place of the grid."""
        return functional.adaptive_avg_pool2d(maps, grid)

    def _brightness(self, maps: Tensor, grid: tuple[int, int]) -> tuple[list[Tensor], list[Tensor]]:
        edges, patterns = [self.pool_places(maps, grid)], []
        # In front of the maps stands the image, behind it what was seen at smaller scales.
        for _ in range(SCALES):
            energies = self._energies(maps)
            pooled = self.pool_places(energies, grid).log1p_()
            edges.append(pooled[:, :ORIENTATIONS])
            patterns.append(pooled[:, ORIENTATIONS:])
            maps = torch.cat((self._halve(maps), energies[:, :ORIENTATIONS].log1p()), dim=1)
        return edges, patterns

    def _colour(self, image: Tensor, grid: tuple[int, int]) -> list[Tensor]:
        edges = [self.pool_places(image, grid)]
        for _ in range(1, SCALES):
            image = self._halve(image)
            edges.append(self.pool_places(self._energies(image), grid).log1p_())
        return edges

    def _energies(self, maps: Tensor) -> Tensor:
        """`[N, C, H, W]` → `[N, 6C, ⌈H/2⌉, ⌈W/2⌉]`, each map's orientations side by side."""
        even, odd = self._filter(maps, self.waves).square_().chunk(2, dim=1)
        energies = (even + odd).sqrt_()
        return energies.reshape(maps.shape[0], -1, *energies.shape[2:])

    def _halve(self, maps: Tensor) -> Tensor:
        blurred = self._filter(maps, self.blur)
        return blurred.reshape(*maps.shape[:2], *blurred.shape[2:])

    def _filter(self, maps: Tensor, kernels: Tensor) -> Tensor:
        margin = kernels.shape[-1] // 2
        alone = maps.reshape(-1, 1, *maps.shape[2:])
        return functional.conv2d(functional.pad(alone, (margin,) * 4, mode="replicate"), kernels, stride=2)


def morlet(angle: float) -> NDArray[np.complex128]:
    """A wave of 2.7 pixels that runs at an angle (0 along a row, π/2 down a column), under a bell: `[7, 7]`.

    Its values sum to 0 and their moduli to 1. The bell is twice as long along the crests as across them.

    Example:
        >>> wave = morlet(0.0)
        >>> bool(abs(wave.sum()) < 1e-12), bool(np.allclose(np.rot90(wave), np.conj(morlet(np.pi / 2))))
        (True, True)
    """
    reach = np.arange(_TAPS) - _TAPS // 2
    down, right = np.meshgrid(reach, reach, indexing="ij")
    along = right * math.cos(angle) + down * math.sin(angle)
    across = down * math.cos(angle) - right * math.sin(angle)
    bell = np.exp(-(along**2 + (_SLANT * across) ** 2) / (2 * _WIDTH**2))
    wave = bell * np.exp(1j * _WAVE * along)
    wave -= bell * (wave.sum() / bell.sum())
    return np.asarray(wave / np.abs(wave).sum())


@cache
def _bank() -> FilterBank:
    return FilterBank()


def scattering_maps(images: Iterable[NDArray[np.uint8]]) -> Iterator[Floats]:
    """The map of each photograph through `FilterBank`, uint8 `[H, W]` or `[H, W, 3]` → float32 `[h, w, 441]`.

    One by one, so that a photograph gives the same numbers alone and among others, and memory stays flat.

    Raises:
        InputError: a photograph of another shape or type.

    Example:
        >>> [maps.shape for maps in scattering_maps([np.zeros((64, 48), np.uint8), np.zeros((5, 7, 3), np.uint8)])]
        [(4, 3, 441), (1, 1, 441)]
    """
    bank = _bank()
    with adaptive_threads() as adapt:
        for image in images:
            if (
                image.dtype != np.uint8
                or image.ndim not in (2, 3)
                or 0 in image.shape
                or image.shape[2:] not in ((), (3,))
            ):
                raise InputError(
                    f"a photograph of {image.dtype} {list(image.shape)}; give uint8 [H, W] or [H, W, 3]"
                )
            adapt()
            # A copy, because a memory map may be read-only, which torch does not know.
            pixels = torch.from_numpy(np.array(image))
            with torch.inference_mode():
                maps = bank(pixels[None])[0].numpy()
            yield maps
