"""The loop, its schedules, checkpoints and the doctor."""

import math
import threading

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from mekiki.errors import DivergedError, InputError
from mekiki.models.losses import ContrastiveLoss
from mekiki.models.networks import build_encoder
from mekiki.models.sampling import fixed_pairs
from mekiki.training.callbacks import AfterEpoch
from mekiki.training.checkpoints import read_checkpoint
from mekiki.training.collapse import diagnose, effective_rank, spread
from mekiki.training.objectives import LOSSES, Batch, build_objective
from mekiki.training.schedules import one_cycle, post19, step
from mekiki.training.train_embedding import Examples, TrainingSettings, read_ahead, train_embedding

EVERY_LOSS = [*LOSSES, "pml:MultiSimilarityLoss", "pml:ProxyAnchorLoss"]


def run(digits, loss="contrastive", epochs=2, n=400, **more):
    pixels, labels, test_pixels, test_labels = digits
    torch.manual_seed(0)
    encoder = build_encoder("mlp", (1, 8, 8), 2, normalise=False, mean=[78.0], std=[96.0])
    objective = build_objective(loss, encoder, dim=2, classes=10, margin=1.0, batch_size=64, seed=0)
    settings = TrainingSettings(epochs=epochs, **more.pop("settings", {}))
    history = train_embedding(
        objective,
        encoder,
        Examples(more.pop("stored", pixels[:n]), torch.from_numpy(labels[:n])),
        validation=Examples(test_pixels[:201], torch.from_numpy(test_labels[:201])),
        settings=settings,
        fabric=Fabric(accelerator="cpu", devices=1),
        **more,
    )
    return history, encoder


def weights(encoder):
    return torch.cat([p.detach().flatten() for p in encoder.parameters()])


def without_time(history):
    return {k: v for k, v in history.items() if k not in ("seconds", "images_per_second", "threads")}


@pytest.mark.parametrize(("ours", "before_the_epoch"), [(step, False), (post19, True)])
def test_schedules_follow_torch_steplr(ours, before_the_epoch):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 8, gamma=0.1)
    for epoch in range(20):
        optimizer.step()
        if before_the_epoch:
            scheduler.step()
        assert ours(epoch, 20) == pytest.approx(optimizer.param_groups[0]["lr"])
        if not before_the_epoch:
            scheduler.step()


def test_one_cycle_follows_torch_onecycle():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    rise = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1e-9, total_iters=20)
    fall = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1e-9, total_iters=80)
    both = torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[20])
    for hundredth in range(100):
        assert one_cycle(hundredth / 10, 10) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-6)
        optimizer.step()
        both.step()


@pytest.mark.parametrize("loss", EVERY_LOSS)
def test_every_loss_learns(digits, loss):
    if loss.startswith("pml:"):
        pytest.importorskip("pytorch_metric_learning")
    history, _ = run(digits, loss, epochs=6, n=1200)
    assert history["val_loss"][-1] < history["val_loss"][0]
    assert history["epoch"] == [1, 2, 3, 4, 5, 6]
    assert all(len(column) == 6 for column in history.values())
    assert "accuracy" in history or "val_pair_accuracy" in history or loss not in ("softmax", "contrastive")


@pytest.mark.parametrize("loss", ["contrastive", "online-triplet", "pml:ProxyAnchorLoss"])
def test_a_resumed_training_is_bit_for_bit_the_uninterrupted_one(digits, tmp_path, loss):
    if loss.startswith("pml:"):
        pytest.importorskip("pytorch_metric_learning")
    whole, expected = run(digits, loss, epochs=4)
    checkpoint = tmp_path / "checkpoint.safetensors"
    run(digits, loss, epochs=2, checkpoint=checkpoint)
    torch.rand(17)  # whatever else the process draws in between must not matter
    resumed, encoder = run(digits, loss, epochs=4, checkpoint=checkpoint, resume=True)
    assert weights(encoder).equal(weights(expected))
    assert without_time(resumed) == without_time(whole)


def test_seeds_repeat_and_differ_and_leave_the_global_state_alone(digits):
    first, _ = run(digits, "online-triplet")
    torch.manual_seed(0)
    build_encoder("mlp", (1, 8, 8), 2, normalise=False, mean=[78.0], std=[96.0])
    before = torch.random.get_rng_state()  # as it is when run() hands over to the training
    history, _ = run(digits, "online-triplet")
    assert torch.random.get_rng_state().equal(before)
    assert without_time(history) == without_time(first)
    other, _ = run(digits, "online-triplet", settings={"seed": 1})
    assert other["train_loss"] != first["train_loss"]


def test_validation_is_weighted_by_samples(digits):
    history, encoder = run(digits, epochs=1)
    labels = torch.from_numpy(digits[3][:201])
    pairs = fixed_pairs(labels)
    stored = torch.from_numpy(digits[2][:201])
    with torch.no_grad():
        vectors = encoder(stored)
        expected = ContrastiveLoss(1.0)(vectors[pairs.anchor], vectors[pairs.partner], pairs.same)
    # 201 pairs in batches of 64: a mean of batch means would count the last 9 sevenfold.
    assert history["val_loss"][0] == pytest.approx(expected.item(), rel=1e-5)


def test_online_losses_are_validated_on_the_scale_of_their_plain_ones(digits):
    untrained = [
        run(digits, loss, epochs=1, settings={"lr": 1e-12})[0]["val_loss"][0]
        for loss in ("contrastive", "online-contrastive", "triplet", "online-triplet")
    ]
    assert untrained[0] == pytest.approx(untrained[1], rel=1e-6)
    assert untrained[2] == pytest.approx(untrained[3], rel=1e-6)


def test_a_memory_map_trains_as_the_same_array_does(digits, tmp_path):
    np.save(tmp_path / "pixels.npy", digits[0][:400])
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    assert without_time(run(digits, stored=mapped)[0]) == without_time(run(digits)[0])


def test_reading_ahead_from_a_disk_keeps_the_order_and_tells_what_went_wrong(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(40, dtype=np.uint8).reshape(20, 2))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    examples = Examples(mapped, torch.zeros(20, dtype=torch.int64))
    batches = [Batch((torch.tensor(rows),), torch.zeros(2)) for rows in ([3, 1], [0, 19], [7, 7])]
    given = list(read_ahead(examples, batches, torch.device("cpu")))
    assert [batch for batch, _ in given] == batches
    assert [taken[0][:, 0].tolist() for _, taken in given] == [[6, 2], [0, 38], [14, 14]]
    beyond = [batches[0], Batch((torch.tensor([99, 1]),), torch.zeros(2))]
    with pytest.raises(IndexError):
        list(read_ahead(examples, beyond, torch.device("cpu")))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("examples")]


def test_a_checkpoint_of_other_settings_is_refused_with_what_differs(digits, tmp_path):
    checkpoint = tmp_path / "checkpoint.safetensors"
    run(digits, epochs=1, checkpoint=checkpoint, identity={"loss": "contrastive"})
    with pytest.raises(
        InputError, match="cannot be resumed with other settings: loss was 'contrastive' and is now 'triplet'"
    ):
        run(digits, epochs=2, checkpoint=checkpoint, resume=True, identity={"loss": "triplet"})
    with pytest.raises(InputError, match="seed was 0 and is now 5"):
        run(
            digits,
            epochs=2,
            checkpoint=checkpoint,
            resume=True,
            identity={"loss": "contrastive"},
            settings={"seed": 5},
        )


def test_a_damaged_checkpoint_is_named(digits, tmp_path):
    checkpoint = tmp_path / "checkpoint.safetensors"
    checkpoint.write_bytes(b"\x10\0\0\0\0\0\0\0not json at all")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        run(digits, checkpoint=checkpoint, resume=True)


def test_divergence_stops_and_keeps_the_last_good_epoch(digits, tmp_path):
    checkpoint = tmp_path / "checkpoint.safetensors"
    good, _ = run(digits, epochs=1, checkpoint=checkpoint)
    broken = digits[0][:400].astype(np.float32)
    broken *= 1e36
    with pytest.raises(DivergedError, match=r"epoch 2/3: the loss is .*spread.*Lower the learning rate"):
        run(digits, epochs=3, checkpoint=checkpoint, resume=True, stored=broken)
    kept = read_checkpoint(checkpoint)
    assert kept.epoch == 1
    assert kept.history["train_loss"] == good["train_loss"]


def test_an_interrupt_keeps_the_last_whole_epoch(digits, tmp_path):
    checkpoint = tmp_path / "checkpoint.safetensors"

    def interrupt(what, done, total):
        if what.startswith("epoch 3/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(digits, epochs=5, checkpoint=checkpoint, progress=interrupt)
    assert read_checkpoint(checkpoint).epoch == 2


def test_spread_and_effective_rank_of_known_clouds():
    rng = torch.Generator().manual_seed(0)
    round_cloud = torch.randn(5000, 3, generator=rng)
    assert effective_rank(round_cloud) == pytest.approx(3.0, abs=0.01)
    assert spread(round_cloud) == pytest.approx(math.sqrt(3), rel=0.02)
    assert effective_rank(torch.ones(10, 4)) == 0.0
    assert effective_rank(torch.outer(torch.arange(10.0), torch.ones(4))) == pytest.approx(1.0, abs=1e-6)


def doctor(**columns):
    more = {"dim": 8, "classes": 10, "scale": 1.0, "constant_loss": 0.25}
    healthy = {"train_loss": [0.2, 0.1], "val_loss": [0.2, 0.1], "spread": [0.9], "effective_rank": [6.0]}
    return [f.code for f in diagnose(healthy | columns, **more)]


def test_the_doctor_names_each_disease_and_none_in_health():
    assert doctor() == ["well"]
    assert doctor(spread=[0.9, 1e-4]) == ["collapsed"]
    assert doctor(spread=[0.9, math.nan]) == ["collapsed"]
    assert doctor(val_loss=[0.2, 0.2501]) == ["constant-loss"]
    assert doctor(val_loss=[0.2, 9.0]) == ["constant-loss"]
    assert doctor(effective_rank=[1.01]) == ["flat"]
    assert doctor(zero_loss_share=[0.999]) == ["starved"]
    assert doctor(val_loss=[0.1, 0.05, 0.06, 0.12]) == ["overfitting"]
    assert doctor(train_loss=[0.1, 0.1, 0.1]) == ["not-learning"]


def test_the_doctor_sees_a_real_collapse(digits):
    """The classic one: the hardest triplets from the first step on, here of labels that mean nothing."""
    pixels, labels, *_ = digits
    torch.manual_seed(0)
    encoder = build_encoder("mlp", (1, 8, 8), 2, normalise=False, mean=[78.0], std=[96.0])
    options = {"selection": "hardest"}
    objective = build_objective(
        "online-triplet", encoder, dim=2, classes=10, margin=1.0, batch_size=64, seed=0, options=options
    )
    shuffled = torch.from_numpy(np.random.default_rng(0).permutation(labels[:400]))
    history = train_embedding(
        objective,
        encoder,
        Examples(pixels[:400], shuffled),
        settings=TrainingSettings(epochs=8, lr=0.01),
        fabric=Fabric(accelerator="cpu", devices=1),
    )
    first, *_ = diagnose(history, dim=2, classes=10, scale=1.0, constant_loss=objective.constant_loss)
    assert first.code == "collapsed"
    assert "the loss sits at 1.0" in first.message.lower()
    assert "semi-hard" in first.advice


def test_sweeping_the_optimizer_changes_no_weight(digits, monkeypatch):
    from mekiki.training import train_embedding as module

    monkeypatch.setattr(module, "SWEEP_EVERY", 10**9)
    _, never = run(digits, epochs=4)
    monkeypatch.setattr(module, "SWEEP_EVERY", 1)
    _, always = run(digits, epochs=4)
    assert weights(always).equal(weights(never))


def test_whoever_watches_a_resumed_training_sees_its_whole_history(digits, tmp_path):
    checkpoint = tmp_path / "checkpoint.safetensors"
    run(digits, epochs=2, checkpoint=checkpoint)
    seen = []
    run(
        digits,
        epochs=4,
        checkpoint=checkpoint,
        resume=True,
        callbacks=[AfterEpoch(lambda state: seen.append(list(state.history["epoch"])))],
    )
    assert seen == [[1, 2, 3], [1, 2, 3, 4]]
