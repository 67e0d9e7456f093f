"""Small data shared by the tests; real data where MEKIKI_DATA is set."""

import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def digits():
    """scikit-learn's digits as images: (train pixels, train labels, test pixels, test labels), uint8."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = (found.images * 255 / 16).round().astype(np.uint8)
    return pixels[:1200], found.target[:1200], pixels[1200:], found.target[1200:]


@pytest.fixture
def real_data():
    """The folder of real data sets."""
    folder = os.environ.get("MEKIKI_DATA")
    if not folder:
        pytest.skip("needs MEKIKI_DATA")
    return Path(folder)
