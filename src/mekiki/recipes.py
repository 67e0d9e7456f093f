"""Recipes: settings of `Embedder` that belong together, by name. `docs/performance.md` says why each is as it is."""

from __future__ import annotations

from typing import Any

from mekiki.errors import not_known

RECIPES = ("post", "fast", "best")
"""`post` is the experiment of QEUR23_SMNRT19, `fast` aims at its quality in the least time, `best` at the highest."""

SUBJECTS = ("digits", "surfaces")
"""What the images show, by which a recipe chooses its augmentation: writing has an upside, a surface has none."""

NETS: dict[str, dict[str, dict[str, Any]]] = {
    "post": {},
    "fast": {"mlp, 2-D": {"encoder": "mlp", "dim": 2}},
    "best": {
        "mlp, 2-D": {"encoder": "mlp", "dim": 2},
        "vgg, 2-D": {"encoder": "vgg", "dim": 2},
        "vgg, 32-D": {"encoder": "vgg", "dim": 32},
    },
}
"""The networks that `mekiki compare` sets side by side for a recipe when no losses are named."""

FAST: dict[str, Any] = {
    "loss": "soft-neighbours",
    "schedule": "one-cycle",
    "epochs": 8,
    "batch_size": 250,
    "lr": 4e-3,
}
BEST: dict[str, Any] = {"loss": "soft-neighbours", "schedule": "one-cycle"}
BEST_OF: dict[str, dict[str, Any]] = {
    "mlp": {"epochs": 60, "batch_size": 120, "lr": 2e-3},
    "conv": {"epochs": 24, "batch_size": 120, "lr": 1e-3},
    "vgg": {"epochs": 24, "batch_size": 120, "lr": 4e-3},
}


def recipe(name: str, *, subject: str = "digits", **given: Any) -> dict[str, Any]:
    """Settings of `Embedder` by the name of a recipe; what is given takes the place of the recipe's own.

    Args:
        name: one of `RECIPES`.
        subject: one of `SUBJECTS`.
        given: settings of `Embedder`.

    Raises:
        InputError: there is no such recipe or subject.

    Example:
        >>> from mekiki import Embedder
        >>> Embedder(**recipe("best", dim=16)).epochs, recipe("post", dim=16)
        (60, {'dim': 16})
    """
    if name not in RECIPES:
        raise not_known("recipe", name, RECIPES)
    if subject not in SUBJECTS:
        raise not_known("subject", subject, SUBJECTS)
    settings: dict[str, Any] = {}
    if name == "fast":
        settings = dict(FAST)
    elif name == "best":
        settings = BEST | {"augment": subject} | BEST_OF.get(given.get("encoder", "mlp"), {})
    return settings | given


def nets(name: str) -> dict[str, dict[str, Any]]:
    """The networks a recipe is compared on when no losses are named: settings of `Embedder` by a name for each.

    Raises:
        InputError: there is no such recipe.

    Example:
        >>> list(nets("best")), nets("post")
        (['mlp, 2-D', 'vgg, 2-D', 'vgg, 32-D'], {})
    """
    if name not in RECIPES:
        raise not_known("recipe", name, RECIPES)
    return NETS[name]
