"""The scikit-learn contract, saving and loading, and what people do wrong."""

import json
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from mekiki import Embedder, InputError
from mekiki.errors import CollapseWarning
from mekiki.models.sampling import SingletonClassError


@parametrize_with_checks([Embedder(epochs=2)])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def fitted(digits):
    pixels, labels, test_pixels, test_labels = digits
    embedder = Embedder(epochs=10, batch_size=32)
    return embedder.fit(pixels, labels, validation=(test_pixels, test_labels))


def test_learns_digits_and_scores_as_a_nearest_neighbour_classifier_does(fitted, digits):
    pixels, labels, test_pixels, test_labels = digits
    score = fitted.score(test_pixels, test_labels)
    neighbours = KNeighborsClassifier(5).fit(fitted.transform(pixels), labels)
    assert score == neighbours.score(fitted.transform(test_pixels), test_labels)
    assert score > 0.85


def test_vectors_are_float32_and_the_reference_is_the_training_side(fitted, digits):
    vectors = fitted.transform(digits[0])
    assert vectors.dtype == np.float32
    assert vectors.shape == (1200, 2)
    assert (vectors == fitted.reference_vectors_).all()
    assert fitted.get_feature_names_out().tolist() == ["embedder0", "embedder1"]


def test_same_seed_same_result(digits):
    pixels, labels, *_ = digits
    one, two, other = (
        Embedder(epochs=1, random_state=seed).fit(pixels, labels).transform(pixels[:9]) for seed in (3, 3, 4)
    )
    assert (one == two).all()
    assert (one != other).any()


def test_labels_may_be_words_and_their_order_does_not_matter(digits):
    pixels, labels, test_pixels, test_labels = digits
    words = np.array([f"kind {9 - label}" for label in range(10)])
    embedder = Embedder(epochs=2).fit(pixels, words[labels])
    assert embedder.classes_.tolist() == sorted(words)
    assert embedder.score(test_pixels, words[test_labels]) > 0.3


def test_pipeline_clone_and_grid_search(digits):
    rows, labels = digits[0].reshape(1200, -1).astype(float), digits[1]
    pipeline = make_pipeline(MinMaxScaler(), Embedder(epochs=10, batch_size=32), KNeighborsClassifier(5))
    assert clone(pipeline).fit(rows[:900], labels[:900]).score(rows[900:], labels[900:]) > 0.6
    search = GridSearchCV(Embedder(epochs=1), {"loss": ["contrastive", "softmax"], "dim": [2, 4]}, cv=2)
    search.fit(rows[:300], labels[:300])
    assert set(search.best_params_) == {"loss", "dim"}


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ("softmax", None),
        ("triplet", {"squared": True}),
        ("online-contrastive", {"selection": "all"}),
        ("online-triplet", {"selection": "random-hard"}),
        ("pml:TripletMarginLoss", {"margin": 0.2}),
    ],
)
def test_every_loss_saves_and_loads(digits, tmp_path, loss, options):
    if loss.startswith("pml:"):
        pytest.importorskip("pytorch_metric_learning")
    pixels, labels, test_pixels, test_labels = digits
    embedder = Embedder(loss=loss, loss_options=options, dim=3, epochs=1, normalise=True).fit(pixels, labels)
    embedder.save(tmp_path / "model")
    loaded = Embedder.load(tmp_path / "model")
    assert loaded.get_params() == embedder.get_params() | {"device": "auto"}
    assert (loaded.transform(test_pixels) == embedder.transform(test_pixels)).all()
    assert loaded.score(test_pixels, test_labels) == embedder.score(test_pixels, test_labels)
    np.testing.assert_equal(loaded.history_, embedder.history_)  # to the last digit; NaN equals NaN


def test_loaded_embedder_measures_distance_as_the_fitted_one(fitted, digits, tmp_path):
    fitted.save(tmp_path / "model")
    loaded = Embedder.load(tmp_path / "model")
    same = loaded.distance(digits[2][0], digits[2][0])
    assert same == fitted.distance(digits[2][0], digits[2][0])
    assert (same.value, same.same, same.same_closer) == (0.0, True, pytest.approx(0, abs=0.01))
    a, b = digits[0][digits[1] == 0][0], digits[0][digits[1] == 1][0]
    apart = loaded.distance(a, b)
    assert not apart.same
    assert apart.value == pytest.approx(
        float(np.linalg.norm(fitted.transform(a[None]) - fitted.transform(b[None]))), rel=1e-6
    )
    assert "(margin = 1): different kinds" in str(apart)


def test_the_saved_folder_holds_nothing_that_runs(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    names = {p.name for p in (tmp_path / "model").iterdir()}
    assert names == {
        "model.safetensors",
        "reference.safetensors",
        "config.json",
        "history.csv",
        "manifest.json",
    }
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["input"] == {"shape": [1, 8, 8], "stored": "uint8"}


def test_saving_over_an_older_model_replaces_it_whole(fitted, digits, tmp_path):
    Embedder(epochs=1, dim=5).fit(digits[0], digits[1]).save(tmp_path / "model")
    fitted.save(tmp_path / "model")
    assert Embedder.load(tmp_path / "model").dim == 2
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("victim", ["model.safetensors", "reference.safetensors", "history.csv"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_model_is_one_line(fitted, tmp_path, victim, damage):
    fitted.save(tmp_path / "model")
    path = tmp_path / "model" / victim
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"is damaged .*; train it again") as caught:
        Embedder.load(tmp_path / "model")
    assert "\n" not in str(caught.value)


def test_saving_never_removes_what_is_not_an_embedder(fitted, tmp_path):
    (tmp_path / "thesis.doc").write_text("precious")
    with pytest.raises(InputError, match="holds something else"):
        fitted.save(tmp_path)
    assert (tmp_path / "thesis.doc").read_text() == "precious"
    (tmp_path / "empty").mkdir()
    fitted.save(tmp_path / "empty")
    Embedder.load(tmp_path / "empty")


def test_numbers_of_numpy_are_numbers(digits, tmp_path):
    settings = {
        "epochs": np.int64(1),
        "dim": np.int32(3),
        "margin": np.float32(0.5),
        "normalise": np.bool_(True),
        "loss": "online-triplet",
        "loss_options": {"squared": np.bool_(True)},
    }
    embedder = Embedder(**settings).fit(digits[0][:300], digits[1][:300])
    embedder.save(tmp_path / "model")
    assert Embedder.load(tmp_path / "model").loss_options == {"squared": True}
    with pytest.raises(InputError, match="saved as JSON"):
        Embedder("pml:ContrastiveLoss", loss_options={"distance": object()}).fit(digits[0], digits[1])


def test_softmax_is_validated_on_whatever_classes_there_are(digits):
    pixels, labels, test_pixels, test_labels = digits
    zeros = test_labels == 0
    embedder = Embedder("softmax", epochs=3).fit(
        pixels, labels, validation=(test_pixels[zeros], test_labels[zeros])
    )
    assert embedder.history_["val_accuracy"][-1] > 0.5
    assert "zero_loss_share" not in embedder.history_


def test_a_read_only_memory_map_is_no_matter(fitted, digits, tmp_path):
    np.save(tmp_path / "pixels.npy", digits[2])
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (fitted.transform(mapped) == fitted.transform(digits[2])).all()


def test_loading_what_is_no_model_says_so(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        Embedder.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"config\.json is missing"):
        Embedder.load(tmp_path)
    (tmp_path / "config.json").write_text('{"format": "other/9"}')
    with pytest.raises(InputError, match="other/9"):
        Embedder.load(tmp_path)


def test_uint8_images_stay_uint8_and_colour_and_float_images_work():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20)
    colour = rng.integers(0, 100, (40, 6, 5, 3), dtype=np.uint8)
    colour[labels == 1, :, :, 0] += 120
    embedder = Embedder(epochs=5, encoder="conv", batch_size=8).fit(colour, labels)
    assert embedder.input_shape_ == (3, 6, 5)
    assert embedder.stored_dtype_ == "uint8"
    assert embedder.score(colour, labels) == 1.0
    floats = Embedder(epochs=1).fit(colour[..., 0] / 255.0, labels)
    assert floats.stored_dtype_ == "float32"
    tensor = torch.from_numpy(colour)
    assert (embedder.transform(tensor) == embedder.transform(colour)).all()


def test_one_column_of_features_is_standardised_by_itself():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    rows = np.stack([1e6 + 1e4 * rng.normal(size=200), 1e-3 * (labels + 0.1 * rng.normal(size=200))], 1)
    assert Embedder(epochs=20, batch_size=16).fit(rows, labels).score(rows, labels) > 0.95


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dim": 0}, "dim must be a whole number of at least 1"),
        ({"epochs": 0}, "epochs must be"),
        ({"batch_size": 1}, "batch_size must be"),
        ({"margin": -1.0}, "margin must be a number above 0"),
        ({"lr": float("nan")}, "lr must be a number above 0"),
        ({"loss": "contrastiv"}, "did you mean contrastive"),
        ({"encoder": "resnet"}, "choose one of mlp, conv"),
        ({"schedule": "cosine"}, "choose one of step, post19, one-cycle"),
        ({"augment": "digit"}, "did you mean digits"),
        ({"augment": {"rotate": 400}}, "rotate must be"),
        ({"augment": 3}, "none, digits, surfaces"),
        ({"device": "tpu"}, "device must be"),
        ({"loss": "triplet", "loss_options": {"colour": 1}}, "colour"),
    ],
)
def test_settings_that_cannot_be_are_named(digits, settings, said):
    with pytest.raises(InputError, match=said) as caught:
        Embedder(**settings).fit(digits[0][:100], digits[1][:100])
    assert "\n" not in str(caught.value)


def test_data_that_cannot_be_are_named(digits, fitted):
    pixels, labels, *_ = digits
    with pytest.raises(InputError, match="only one class"):
        Embedder().fit(pixels[:10], np.zeros(10))
    with pytest.raises(SingletonClassError, match=r"1 of 3 classes .* \(scratch\)"):
        Embedder().fit(pixels[:5], ["pit", "ok", "scratch", "ok", "pit"])
    with pytest.raises(ValueError, match="inconsistent"):
        Embedder().fit(pixels[:10], labels[:9])
    with pytest.raises(InputError, match=r"\[N, H, W\]"):
        Embedder().fit(np.zeros((4, 2, 2, 7)), [0, 0, 1, 1])
    with pytest.raises(InputError, match="2 values that are NaN"):
        broken = pixels[:100].astype(float)
        broken[3, 2, 1:3] = np.nan
        Embedder().fit(broken, labels[:100])
    with pytest.raises(InputError, match="resize them first"):
        fitted.transform(np.zeros((3, 9, 9), np.uint8))
    with pytest.raises(InputError, match="learnt from uint8"):
        fitted.transform(pixels / 255)
    with pytest.raises(NotFittedError):
        Embedder().transform(pixels)


def test_a_collapse_is_a_warning_that_says_what_to_try(digits):
    pixels, labels = digits[0][:400], digits[1][:400]
    meaningless = np.random.default_rng(0).permutation(labels)
    hardest = Embedder("online-triplet", loss_options={"selection": "hardest"}, lr=0.01, batch_size=64)
    with pytest.warns(CollapseWarning, match=r"practically equal.* semi-hard"):
        hardest.fit(pixels, meaningless)


def test_validation_leaves_out_labels_that_training_has_not(digits):
    pixels, labels, test_pixels, test_labels = digits
    known = labels < 5
    embedder = Embedder(epochs=1).fit(pixels[known], labels[known], validation=(test_pixels, test_labels))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        only = test_labels < 5
        other = Embedder(epochs=1).fit(
            pixels[known], labels[known], validation=(test_pixels[only], test_labels[only])
        )
    assert embedder.history_["val_loss"] == other.history_["val_loss"]


def test_augmented_training_is_seeded_saved_and_gone_on_with(digits, tmp_path):
    pixels, labels = digits[0][:300], digits[1][:300]
    augment = {"base": "digits", "shift": 0.1}
    settings = {
        "loss": "soft-neighbours",
        "augment": augment,
        "schedule": "one-cycle",
        "epochs": 4,
        "batch_size": 50,
    }
    whole = Embedder(**settings).fit(pixels, labels)
    again = Embedder(**settings).fit(pixels, labels)
    assert (whole.transform(pixels) == again.transform(pixels)).all()
    plain = Embedder(**settings | {"augment": None}).fit(pixels, labels)
    assert not np.allclose(plain.transform(pixels), whole.transform(pixels))
    whole.save(tmp_path / "eye")
    assert Embedder.load(tmp_path / "eye").augment == augment

    class Stop(Exception):
        pass

    def stop(history, findings):
        if history["epoch"][-1] == 2:
            raise Stop

    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Stop):
        Embedder(**settings).fit(pixels, labels, checkpoint=checkpoint, on_epoch=stop)
    resumed = Embedder(**settings).fit(pixels, labels, checkpoint=checkpoint, resume=True)
    assert (resumed.transform(pixels) == whole.transform(pixels)).all()


def test_rows_of_features_cannot_be_augmented(digits):
    rows = digits[0][:100].reshape(100, -1)
    with pytest.raises(InputError, match="needs images"):
        Embedder(augment="digits").fit(rows, digits[1][:100])


def test_a_net_with_batch_norm_is_the_same_after_saving(digits, tmp_path):
    pixels, labels = digits[0][:200], digits[1][:200]
    embedder = Embedder("soft-neighbours", encoder="vgg", epochs=2, batch_size=50, random_state=3).fit(
        pixels, labels
    )
    embedder.save(tmp_path / "eye")
    assert (Embedder.load(tmp_path / "eye").transform(pixels) == embedder.transform(pixels)).all()
