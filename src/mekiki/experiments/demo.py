"""The demo: the experiment of the post, and a network for surfaces with defects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mekiki.console import Progress, silent
from mekiki.embedder import Embedder
from mekiki.errors import InputError
from mekiki.experiments.compare import compare
from mekiki.experiments.request import DataRequest
from mekiki.experiments.train import OnEpoch, train_run
from mekiki.storage.run_folder import REPORT


def demo(
    folder: Path,
    *,
    command: str = "",
    say: Callable[[str], None],
    on_epoch: OnEpoch | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Compare the Siamese network of the post with a plain classifier, then train one on surfaces with defects.

    The images are MNIST where it is available, else scikit-learn's digits. An earlier demo in the folder is continued.

    Args:
        folder: holds `compare-…/` and `surfaces/`.
        command: the command line, for the record.
        say: called with a line for each step.
        on_epoch: as in `train_run`.
        progress: called during long steps.

    Returns:
        `comparison`, `surfaces` (its metrics) and `reports` (their paths).
    """
    request = DataRequest("mnist")
    settings: dict[str, Any] = {"epochs": 10}
    try:
        split = request.load(progress)
        say(f"MNIST: {len(split.train):,} training and {len(split.test):,} test images")
    except InputError as error:
        say(f"MNIST is not available here ({str(error).partition(';')[0]}); scikit-learn's digits instead")
        request = DataRequest("digits")
        settings = {"epochs": 20, "batch_size": 32}
    comparison = compare(
        request,
        {name: settings | {"loss": name} for name in ("softmax", "contrastive")},
        [0],
        folder / f"compare-{request.spec}",
        command=command,
        on_run=lambda loss, seed: say(f"{request.spec} with {loss}"),
        on_epoch=on_epoch,
        progress=progress,
    )
    say(
        "generated surfaces, clean and with defects, and a convolutional network that selects pairs in the batch"
    )
    surfaces = DataRequest("surfaces", size=(32, 32), per_class=1500)
    result = train_run(
        surfaces,
        surfaces.load(progress),
        Embedder(loss="online-contrastive", encoder="conv", dim=16, epochs=8, batch_size=50),
        folder / "surfaces",
        resume=True,
        command=command,
        on_epoch=on_epoch,
        progress=progress,
    )
    reports = [comparison["report"], str(result.run.folder / REPORT)]
    return {"comparison": comparison, "surfaces": result.metrics, "reports": reports}
