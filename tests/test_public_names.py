"""Public names that packages load when they are first used."""

import importlib

import pytest


@pytest.mark.parametrize("package", ["mekiki", "mekiki.judging", "mekiki.cases"])
def test_every_public_name_can_be_loaded(package):
    module = importlib.import_module(package)
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(module, "no_such_name")  # noqa: B009
