"""The training loop with its callbacks: early stopping, checkpoints, resumption, mean loss."""

import pytest
import torch

from mekiki.errors import InputError
from mekiki.training.callbacks import AfterEpoch, EarlyStopping, MeanLoss, SaveCheckpoint, StepProgress
from mekiki.training.checkpoints import continue_from
from mekiki.training.fit import Callback, fit


def train(model, values=None, epochs=6, history=None, callbacks=(), measure=None, optimizer=None):
    """Train a linear model on noise that is drawn from torch's global generator."""
    values = iter(values or [])

    def step(batch):
        x = torch.randn(4, 2)
        return (model(x) - x.sum(1, keepdim=True)).square().mean(), 4

    return fit(
        lambda epoch: (3, range(3)),
        step,
        optimizer or torch.optim.Adam(model.parameters()),
        epochs=epochs,
        rate=lambda epoch, step, steps: 0.01,
        measure=measure or (lambda state: {"held_out": next(values, 0.0)}),
        history=history,
        callbacks=callbacks,
    )


def new_model():
    torch.manual_seed(0)
    return torch.nn.Linear(2, 1)


def test_early_stopping_keeps_the_best_epoch_and_stops_after_its_patience():
    model, weights = new_model(), []
    early = EarlyStopping(model, "held_out", 2)
    after = AfterEpoch(lambda state: weights.append(model.weight.detach().clone()))
    history = train(model, [3.0, 1.0, 1.0, 2.0, 0.5], callbacks=[early, after])
    assert history["epoch"] == [1, 2, 3, 4]
    assert not model.weight.equal(weights[1])
    early.restore()
    assert model.weight.equal(weights[1])


def test_early_stopping_counts_the_epochs_before_a_resumption():
    model = new_model()
    history = {"epoch": [1.0, 2.0, 3.0], "held_out": [1.0, 2.0, 2.0]}
    early = EarlyStopping(model, "held_out", 2, history["held_out"])
    assert train(model, history=history, callbacks=[early])["epoch"] == [1, 2, 3]


def test_a_resumed_training_equals_an_uninterrupted_one_to_the_bit(tmp_path):
    whole, path, settings = new_model(), tmp_path / "checkpoint.safetensors", {"rate": 0.01}
    train(whole)
    first = new_model()
    optimizer = torch.optim.Adam(first.parameters())
    save = SaveCheckpoint(path, settings, model=first, optimizer=optimizer)
    train(first, epochs=2, optimizer=optimizer, callbacks=[save])
    second = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(second.parameters())
    history = continue_from(path, settings, model=second, optimizer=optimizer)
    assert train(second, optimizer=optimizer, history=history)["epoch"] == [1, 2, 3, 4, 5, 6]
    assert second.weight.equal(whole.weight)
    with pytest.raises(InputError, match=r"other settings: rate was 0\.01 and is now 0\.5"):
        continue_from(path, {"rate": 0.5}, model=second, optimizer=optimizer)


def test_the_mean_loss_is_that_of_the_epoch_and_progress_counts_steps():
    losses, shown, mean, model = [], [], MeanLoss(), new_model()

    class Watch(Callback):
        def on_step_end(self, state):
            losses.append(state.loss.item())

    callbacks = [mean, Watch(), StepProgress(lambda *step: shown.append(step), "training")]
    history = train(model, epochs=2, callbacks=callbacks, measure=lambda state: {"loss": mean.value})
    assert history["loss"] == pytest.approx([sum(losses[:3]) / 3, sum(losses[3:]) / 3])
    assert shown[-1] == ("training, epoch 2", 3, 3)
    assert len(shown) == 6


def test_a_callback_ends_an_epoch_and_the_global_random_state_is_put_back():
    class End(Callback):
        def on_step_end(self, state):
            steps.append(state.step)
            state.end_epoch = state.epoch == 0

    steps, model = [], new_model()
    before = torch.random.get_rng_state()
    train(model, epochs=2, callbacks=[End()])
    assert steps == [0, 0, 1, 2]
    assert torch.random.get_rng_state().equal(before)
