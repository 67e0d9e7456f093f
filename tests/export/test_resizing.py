"""Resizing in a graph against Pillow itself: the same pixels, whatever the sizes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mekiki.export.resizing import FILTERS, Resizing

sides = st.integers(1, 90)


def by_pillow(image, wanted, resample, gap):
    return np.asarray(
        Image.fromarray(image).resize(wanted[::-1], Image.Resampling(resample), reducing_gap=gap)
    )


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(sides, sides),
    st.tuples(sides, sides),
    st.sampled_from(sorted(FILTERS)),
    st.sampled_from([None, 1.0, 2.0, 3.0]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_any_size_any_filter_gives_pillows_pixels(given, wanted, resample, gap, extreme, seed):
    image = np.random.default_rng(seed).integers(0, 256, (*given, 3)).astype(np.uint8)
    if extreme:  # where bicubic goes beyond black and white
        image = (image // 128 * 255).astype(np.uint8)
    mine = Resizing(given, wanted, resample, gap)(torch.from_numpy(image).int()[None])[0].numpy()
    assert np.array_equal(mine, by_pillow(image, wanted, resample, gap))


@pytest.mark.parametrize("given", [(1080, 1440), (613, 2001)])
def test_large_photographs_are_reduced_first_as_pillow_does(given):
    image = np.random.default_rng(0).integers(0, 256, given).astype(np.uint8)
    mine = Resizing(given, (64, 48), 2, 2.0)(torch.from_numpy(image).int()[None, :, :, None])
    assert np.array_equal(mine[0, :, :, 0].numpy(), by_pillow(image, (64, 48), 2, 2.0))


def test_a_batch_is_resized_as_its_images_are():
    images = torch.randint(0, 256, (3, 20, 30, 1), dtype=torch.int32)
    resizing = Resizing((20, 30), (11, 7))
    assert torch.equal(resizing(images)[1:2], resizing(images[1:2]))
