"""Recipes: settings of `Embedder` that belong together, by name. `docs/performance.md` has the reasons for each."""

from __future__ import annotations

from typing import Any

from mekiki.errors import not_known

RECIPES = ("reference", "fast", "best")
"""`reference` is the experiment of QEUR23_SMNRT19, `fast` its quality in the least time, `best` the highest quality."""

DOMAINS = ("digits", "surfaces")
"""What the images show, which decides the augmentation: digits may not be mirrored, surfaces may."""

NETS: dict[str, dict[str, dict[str, Any]]] = {
    "reference": {},
    "fast": {"mlp, 2-D": {"encoder": "mlp", "dim": 2}},
    "best": {
        "mlp, 2-D": {"encoder": "mlp", "dim": 2},
        "vgg, 2-D": {"encoder": "vgg", "dim": 2},
        "vgg, 32-D": {"encoder": "vgg", "dim": 32},
    },
}
"""The networks that `mekiki compare` compares for a recipe when no losses are named."""

FAST = {"loss": "soft-neighbours", "schedule": "one-cycle", "epochs": 8, "batch_size": 250, "lr": 4e-3}
BEST = {"loss": "soft-neighbours", "schedule": "one-cycle"}
BEST_OF = {
    "mlp": {"epochs": 60, "batch_size": 120, "lr": 2e-3},
    "conv": {"epochs": 24, "batch_size": 120, "lr": 1e-3},
    "vgg": {"epochs": 24, "batch_size": 120, "lr": 4e-3},
}


def recipe(name: str, *, domain: str = "digits", **given: Any) -> dict[str, Any]:
    """Settings of `Embedder` by the name of a recipe; settings that are given replace the recipe's own.

    Args:
        name: one of `RECIPES`, or `post` for `reference`.
        domain: one of `DOMAINS`.
        given: settings of `Embedder`.

    Raises:
        InputError: there is no such recipe or domain.

    Example:
        >>> from mekiki import Embedder
        >>> Embedder(**recipe("best", dim=16)).epochs, recipe("reference", dim=16)
        (60, {'dim': 16})
    """
    name = _resolve(name)
    if domain not in DOMAINS:
        raise not_known("domain", domain, DOMAINS)
    settings: dict[str, Any] = {}
    if name == "fast":
        settings = dict(FAST)
    elif name == "best":
        settings = BEST | {"augment": domain} | BEST_OF.get(given.get("encoder", "mlp"), {})
    return settings | given


def nets(name: str) -> dict[str, dict[str, Any]]:
    """The networks on which a recipe is compared when no losses are named: settings of `Embedder` by name.

    Raises:
        InputError: there is no such recipe.

    Example:
        >>> list(nets("best")), nets("reference")
        (['mlp, 2-D', 'vgg, 2-D', 'vgg, 32-D'], {})
    """
    return NETS[_resolve(name)]


def _resolve(name: str) -> str:
    if name == "post":  # its name before version 2.1
        return "reference"
    if name not in RECIPES:
        raise not_known("recipe", name, RECIPES)
    return name
