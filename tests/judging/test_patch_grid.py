"""`join_layers` against a plain reference: averages and interpolation written out place by place."""

import numpy as np
import pytest
import torch

from mekiki.judging.patch_grid import LONGEST_SIDE, join_layers


def average_neighbours(line):
    """Each value of `[n, …]` with those beside it, as far as there are any."""
    return np.stack([line[max(0, i - 1) : i + 2].mean(axis=0) for i in range(len(line))])


def resample(line, new):
    """Values of `[n, …]` at `new` places: the mean of what each covers, or interpolated between centres."""
    old = len(line)
    if new <= old:
        return np.stack(
            [line[i * old // new : int(np.ceil((i + 1) * old / new))].mean(axis=0) for i in range(new)]
        )
    centres = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    low = np.floor(centres).astype(int)
    high = np.minimum(low + 1, old - 1)
    share = (centres - low).reshape(-1, *[1] * (line.ndim - 1))
    return (1 - share) * line[low] + share * line[high]


def join_slowly(layers, height, width):
    grids = []
    for layer in layers:
        for grid in layer.double().numpy():
            rows = resample(average_neighbours(grid), height)
            columns = resample(average_neighbours(rows.swapaxes(0, 1)), width).swapaxes(0, 1)
            grids.append(columns)
    number = len(layers[0])
    return np.concatenate(
        [np.stack(grids[i * number : (i + 1) * number]) for i in range(len(layers))], axis=3
    )


def random_layers(*shapes, number=2):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(number, *shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize(
    ("shapes", "height", "width"),
    [
        ([(28, 28, 3), (14, 14, 4), (7, 7, 5)], 14, 14),
        ([(14, 14, 4)], 14, 14),
        ([(30, 20, 2)], 16, 16),
        ([(20, 12, 2), (10, 6, 3), (5, 3, 2)], 10, 6),
        ([(1, 9, 2), (1, 5, 2)], 1, 5),
        ([(1, 1, 3), (1, 1, 2)], 1, 1),
        ([(1, 1, 3), (2, 3, 2)], 2, 3),
    ],
)
def test_layers_are_averaged_and_interpolated_on_one_grid(shapes, height, width):
    layers = random_layers(*shapes)
    joined = join_layers(layers)
    assert joined.shape == (2, height, width, sum(shape[2] for shape in shapes))
    assert joined.dtype == torch.float32
    np.testing.assert_allclose(joined, join_slowly(layers, height, width), atol=1e-5)


def test_interpolation_is_that_of_torch():
    (coarse,) = random_layers((7, 7, 3))
    joined = join_layers([coarse, torch.zeros(2, 14, 14, 1)])[..., :3]
    channels_first = coarse.permute(0, 3, 1, 2)
    averaged = torch.nn.functional.avg_pool2d(channels_first, 3, 1, 1, count_include_pad=False)
    torch_own = torch.nn.functional.interpolate(averaged, (14, 14), mode="bilinear", align_corners=False)
    torch.testing.assert_close(joined, torch_own.permute(0, 2, 3, 1), atol=1e-5, rtol=1e-5)


def test_a_constant_layer_stays_constant_and_the_grid_is_limited():
    joined = join_layers([torch.full((1, 40, 33, 2), 3.0)])
    assert joined.shape == (1, LONGEST_SIDE, LONGEST_SIDE, 2)
    torch.testing.assert_close(joined, torch.full_like(joined, 3.0))


def test_half_precision_layers_are_taken():
    assert join_layers([torch.ones(1, 4, 4, 2, dtype=torch.float16)]).dtype == torch.float32
