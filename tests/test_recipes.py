"""Recipes: named settings, and what is given goes first."""

import pytest
from sklearn.datasets import load_digits

from mekiki import Embedder
from mekiki.errors import InputError
from mekiki.experiments.request import DataRequest
from mekiki.recipes import NETS, RECIPES, nets, recipe


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("encoder", ["mlp", "conv", "vgg"])
def test_every_recipe_can_be_used_with_every_encoder(name, encoder):
    Embedder(**recipe(name, encoder=encoder)).check_settings()


def test_the_reference_is_an_embedder_without_any_setting():
    assert recipe("reference") == {}
    assert Embedder(**recipe("reference")).get_params() == Embedder().get_params()


def test_what_is_given_goes_first():
    assert recipe("fast", epochs=7)["epochs"] == 7
    assert recipe("fast", loss="triplet", loss_options={"squared": True})["loss_options"] == {"squared": True}
    assert recipe("best", domain="surfaces")["augment"] == "surfaces"
    assert recipe("best", augment="none")["augment"] == "none"


def test_recipes_cannot_be_changed_through_what_they_give():
    recipe("fast")["epochs"] = 99
    recipe("best")["augment"] = "none"
    assert recipe("fast")["epochs"] != 99
    assert recipe("best")["augment"] == "digits"


def test_unknown_names_are_refused_with_the_choices():
    with pytest.raises(InputError, match="reference, fast, best; did you mean best"):
        recipe("bset")
    with pytest.raises(InputError, match="digits, surfaces"):
        recipe("best", domain="faces")
    with pytest.raises(InputError, match="reference, fast, best"):
        nets("none")


def test_nets_are_settings_that_a_recipe_takes():
    assert set(NETS) == set(RECIPES)
    for name in RECIPES:
        for own in nets(name).values():
            Embedder(**recipe(name, **own)).check_settings()


def test_the_domain_follows_from_the_data():
    domains = {
        spec: DataRequest(spec).domain for spec in ("mnist", "kmnist", "digits", "surfaces", "photos/")
    }
    assert domains == {
        "mnist": "digits",
        "kmnist": "digits",
        "digits": "digits",
        "surfaces": "surfaces",
        "photos/": "surfaces",
    }


def test_fast_learns_digits_in_three_epochs_and_more_than_the_post_in_as_many():
    pixels, labels = load_digits(return_X_y=True)
    accuracies = {
        name: Embedder(**recipe(name, epochs=3, batch_size=50))
        .fit(pixels[:1200], labels[:1200])
        .score(pixels[1200:], labels[1200:])
        for name in ("reference", "fast")
    }
    assert accuracies["fast"] > accuracies["reference"]
