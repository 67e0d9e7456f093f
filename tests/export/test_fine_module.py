"""The fine scale as a module that is traced gives what the program gives."""

import numpy as np
import torch

from mekiki.data.decoding import resize_images
from mekiki.export.extractor_modules import ExtractorModule
from mekiki.judging.extractors import ScatteringExtractor
from mekiki.judging.judge_model import FINE

SIZE = (500, 640)


def test_large_photographs_give_the_groups_of_the_program():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8) for _ in range(2)]
    extractor = ScatteringExtractor()
    assert extractor.choose_scale([SIZE], 8) == 6
    frames = [resize_images(image[None], extractor.frame(*SIZE), 3)[0] for image in images]
    extractor.fit([frames])
    expected = extractor.extract(frames).groups
    with torch.no_grad():
        groups = ExtractorModule(extractor, SIZE)(torch.from_numpy(np.stack(images)))
    assert set(groups) == set(expected) and FINE in groups
    for name, group in groups.items():
        np.testing.assert_allclose(group, expected[name], rtol=1e-3, atol=1e-3)
