"""Training by several processes: the same curve as by one, one folder written, cut off and gone on with."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mekiki.training.augment import augmentation
from mekiki.training.distributed import Ranks
from parts import Said, wait_until

REASON = "processes meet over gloo, which torch has on Linux and macOS"
pytestmark = pytest.mark.skipif(not torch.distributed.is_available() or os.name == "nt", reason=REASON)

PROGRAM = """
import json, os, sys
from datetime import timedelta
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import nn
from mekiki.models.networks import ConvEmbeddingNet, EmbeddingNet, VGGEmbeddingNet
from mekiki.training.train_embedding import Examples, TrainingSettings, train_embedding
from mekiki.training.processes import leave
from mekiki.training.objectives import build_objective

torch.set_default_dtype(torch.float64)  # so that rounding cannot hide, or excuse, anything
several = int(os.environ["WORLD_SIZE"]) > 1
more = {"strategy": DDPStrategy(broadcast_buffers=False, timeout=timedelta(seconds=60))} if several else {}
fabric = Fabric(accelerator="cpu", devices=int(os.environ["WORLD_SIZE"]), precision="64-true", **more)
fabric.launch()
generator = torch.Generator().manual_seed(3)
told = {}
for case in json.loads(sys.argv[1]):
    torch.manual_seed(0)
    labels = torch.arange(101)[torch.randperm(101, generator=generator)] % 4
    images = torch.randn(101, 1, 12, 12, generator=generator) + labels.view(-1, 1, 1, 1) / 4
    if case["net"] == "post":
        from mekiki import load_images

        digits, _ = load_images("mnist")
        images = torch.from_numpy(digits.pixels[:12_000]).double().div(255)
        labels = torch.from_numpy(digits.labels[:12_000]).long()
        encoder = nn.Sequential(nn.Identity(), EmbeddingNet((1, 28, 28), 2))
    elif case["net"] in ("conv", "vgg"):
        net = {"conv": ConvEmbeddingNet, "vgg": VGGEmbeddingNet}[case["net"]]
        encoder = nn.Sequential(nn.Identity(), net((1, 12, 12), 2))
    else:
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(144, 16), nn.ReLU(), nn.Linear(16, 2))
        encoder[-1].dim = 2
    objective = build_objective(
        case["loss"], encoder, dim=2, classes=4, margin=1.0, batch_size=case["batch"], seed=0
    )
    held = len(images) // 5
    history = train_embedding(
        objective, encoder, Examples(images[:-held], labels[:-held]),
        validation=Examples(images[-held:], labels[-held:]),
        settings=TrainingSettings(epochs=2), fabric=fabric,
    )
    for name in ("seconds", "images_per_second", "threads"):
        history.pop(name)
    weights = torch.cat([value.double().flatten() for value in objective.model.state_dict().values()])
    told[" ".join(map(str, case.values()))] = history | {"weights": weights.tolist()}
if fabric.global_rank == int(os.environ.get("SPEAKER", 0)):
    print(json.dumps(told))
leave(0)  # as the command does
"""

CASES = [
    {"loss": "contrastive", "net": "mlp", "batch": 16},
    {"loss": "contrastive", "net": "mlp", "batch": 80},  # a last batch of one pair, which cannot be shared
    {"loss": "triplet", "net": "conv", "batch": 15},
    {"loss": "softmax", "net": "conv", "batch": 16},
    {"loss": "soft-neighbours", "net": "conv", "batch": 20},
    {"loss": "online-triplet", "net": "mlp", "batch": 20},
    {"loss": "online-contrastive", "net": "conv", "batch": 12},
    {"loss": "pml:ProxyAnchorLoss", "net": "mlp", "batch": 20},  # has weights of its own
]
TOLERANCE = 1e-7
"""Relative, in float64: Adam's first steps divide gradients by their own size, and so blow rounding up."""
FLOAT32_TOLERANCE = 0.03
"""The same of whole trainings in float32, where rounding has grown over hundreds of steps."""


def environment(**more):
    kept = {k: v for k, v in os.environ.items() if k != "MEKIKI_DATA"}
    return kept | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"} | {k: str(v) for k, v in more.items()}


def trained_by(size, cases, speaker=0, real=False):
    from mekiki.training.processes import free_port

    shared = environment(WORLD_SIZE=size, SPEAKER=speaker, MASTER_ADDR="127.0.0.1", MASTER_PORT=free_port())
    if real:
        shared["MEKIKI_DATA"] = os.environ["MEKIKI_DATA"]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(cases)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=shared | {"LOCAL_RANK": str(rank)},
        )
        for rank in range(size)
    ]
    said = [process.communicate(timeout=600) for process in started]
    assert [process.returncode for process in started] == [0] * size, said
    return json.loads(said[speaker][0])


def test_every_loss_learns_the_same_from_shared_batches():
    pytest.importorskip("pytorch_metric_learning")
    alone, shared = trained_by(1, CASES), trained_by(2, CASES, speaker=1)
    assert alone.keys() == shared.keys()
    for case, history in alone.items():
        for name, column in history.items():
            np.testing.assert_allclose(
                shared[case][name], column, rtol=TOLERANCE, atol=TOLERANCE, err_msg=f"{case}: {name}"
            )


def test_with_batch_normalisation_all_processes_end_with_the_same_network():
    """On processors each normalises its own share of a batch; running means and variances are averaged."""
    case = [{"loss": "softmax", "net": "vgg", "batch": 16}]
    first, second = (trained_by(2, case, speaker=rank) for rank in range(2))
    assert first == second
    (history,) = first.values()
    assert history["train_loss"][-1] < history["train_loss"][0]


@pytest.mark.slow
def test_on_real_digits_the_curves_differ_by_rounding_alone(real_data, monkeypatch):
    """Hundreds of steps blow rounding up a millionfold; in float64 that is still next to nothing."""
    monkeypatch.setenv("MEKIKI_DATA", str(real_data))
    case = [{"loss": "contrastive", "net": "post", "batch": 128}]
    alone, shared = (next(iter(trained_by(size, case, real=True).values())) for size in (1, 2))
    np.testing.assert_allclose(shared["val_loss"], alone["val_loss"], rtol=1e-6)
    np.testing.assert_allclose(shared["train_loss"], alone["train_loss"], rtol=1e-6)


def test_shares_are_in_order_and_leave_nothing_out():
    for size in (1, 2, 3, 7):
        for number in (size, size + 1, 64):
            rows = [row for rank in range(size) for row in range(number)[Ranks(rank, size).share(number)]]
            assert rows == list(range(number))
        if size > 1:
            assert all(Ranks(rank, size).share(size - 1) == slice(0, size - 1) for rank in range(size))


@pytest.fixture
def one_thread():
    """How numbers are rounded depends on how many threads share them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("pixels", [torch.uint8, torch.float32])
def test_a_share_of_a_batch_is_changed_as_it_is_among_all(pixels, one_thread):
    change = augmentation("surfaces" if pixels == torch.float32 else {"base": "digits", "brightness": 0.1})
    images = (torch.rand(9, 12, 12, generator=torch.Generator().manual_seed(1)) * 200).to(pixels)
    whole = change(images, torch.Generator().manual_seed(5))
    share = change(images, torch.Generator().manual_seed(5), slice(4, 9))
    torch.testing.assert_close(share, whole[4:9])


def command(folder, *more, devices=2):
    return (
        "train", "digits", "--batch-size", 32, "--seed", 3, "--out", folder,
        "--devices", devices, *more,
    )  # fmt: skip


def started(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "mekiki", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )


def ended(process, seconds=400):
    out, err = process.communicate(timeout=seconds)
    return Said(process.returncode, out, err)


def column(folder, name):
    with (folder / "history.csv").open(encoding="utf-8", newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def children(process):
    """The processes that a command has started (Linux)."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(number) for number in listed]


def gone(number):
    """Whether a process has ended; one that nobody has asked after is as good as gone."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.slow
def test_two_processes_write_one_run_which_another_number_goes_on_with(tmp_path):
    together, alone = tmp_path / "together", tmp_path / "alone"
    said = ended(started(*command(together, "--epochs", 2, "--json")))
    assert said.code == 0, said.err
    assert said.json["epochs"] == 2
    assert [folder.name for folder in tmp_path.iterdir()] == ["together"]
    said = ended(started(*command(alone, "--epochs", 3, devices=1)))
    assert said.code == 0, said.err
    # In float32 rounding grows as training goes on; that nothing else differs is shown above, in float64.
    for name in ("train_loss", "val_loss"):
        np.testing.assert_allclose(column(together, name), column(alone, name)[:2], rtol=FLOAT32_TOLERANCE)
    said = ended(started(*command(together, "--epochs", 3, "--resume", devices=1)))
    assert said.code == 0, said.err
    np.testing.assert_allclose(
        column(together, "train_loss"), column(alone, "train_loss"), rtol=FLOAT32_TOLERANCE
    )


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@linux
@pytest.mark.slow
@pytest.mark.parametrize("who", [1, 0, "all"])
def test_when_one_process_is_killed_all_end_and_the_rest_is_done_later(tmp_path, who):
    folder = tmp_path / "run"
    cut = started(*command(folder, "--epochs", 5000))
    wait_until((folder / "history.csv").exists, cut, seconds=400)  # written after the checkpoint
    own = children(cut)
    assert len(own) == 2
    if who == "all":  # the command itself: nobody is left to end the others
        cut.kill()
    else:
        os.kill(own[who], signal.SIGKILL)
    said = ended(cut, 60)
    wait_until(lambda: all(gone(number) for number in own), seconds=60)
    if who != "all":
        assert said.code == 128 + signal.SIGKILL, said.err
        assert f"process {who} of 2 was ended by SIGKILL" in said.err
        assert "Traceback" not in said.err
        assert said.err.count("--resume continues") == 1
    epochs = int(column(folder, "epoch")[-1]) + 2
    said = ended(started(*command(folder, "--epochs", epochs, "--resume", "--json")))
    assert said.code == 0, said.err
    assert said.json["epochs"] == epochs


@linux
@pytest.mark.slow
def test_ctrl_c_ends_all_processes_with_one_line(tmp_path):
    folder = tmp_path / "run"
    cut = started(*command(folder, "--epochs", 5000))
    wait_until((folder / "checkpoint.safetensors").exists, cut, seconds=400)
    own = children(cut)
    cut.send_signal(signal.SIGINT)
    said = ended(cut, 60)
    assert said.code == 130
    assert said.err.count("interrupted: ") == 1
    assert "Traceback" not in said.err
    assert all(gone(number) for number in own)
    assert not (folder / "metrics.json").exists()
    assert (folder / "checkpoint.safetensors").exists()


@pytest.mark.slow
def test_torchrun_starts_it_as_well(tmp_path):
    folder = tmp_path / "run"
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = ("train", "digits", "--epochs", "1", "--batch-size", "64", "--out", str(folder))
    done = subprocess.run(
        [*program, "-m", "mekiki", *arguments], env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "metrics.json").is_file()
    assert done.stdout.count("report: ") == 1


def test_what_cannot_be_started_is_said_before_anything_is(mekiki, tmp_path, monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    said = mekiki("train", "digits", "--devices", 2, "--nodes", 2)
    assert "MASTER_ADDR" in said.error
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    said = mekiki("train", "digits", "--devices", 3)
    assert "3 processes, and 2 were started" in said.error
    assert not (tmp_path / "runs").exists()
