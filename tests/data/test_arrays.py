"""Arrays, npz files, the digits, and what `load_images` refuses."""

import numpy as np
import pytest

from mekiki.data.load import load_images
from mekiki.errors import DataWarning, InputError

pytestmark = pytest.mark.filterwarnings("ignore::mekiki.errors.DataWarning")


def images(n=20, *tail, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *(tail or (6, 5))), dtype=np.uint8)


def two_classes(n=20):
    return np.arange(n) % 2


def test_digits_are_always_here_and_split_class_by_class():
    train, test = load_images("digits")
    assert len(train) + len(test) == 1797
    assert train.class_names == tuple("0123456789")
    assert train.pixels.max() == 255
    share = np.array(list(test.counts().values())) / (
        np.array(list(test.counts().values())) + list(train.counts().values())
    )
    assert np.abs(share - 0.2).max() < 0.01
    assert not set(train.names) & set(test.names)


def test_digits_take_size_channels_fraction_and_per_class():
    split = load_images("digits", size=16, channels=3, test_fraction=0.5, per_class=10)
    assert split.train.shape == (3, 16, 16)
    assert set(split.train.counts().values()) == set(split.test.counts().values()) == {10}
    assert split.notes == ("images of 8×8 px are enlarged to 16×16 px, which adds no detail",)


@pytest.mark.parametrize("keys", [("images", "labels"), ("x", "y"), ("X", "Y")])
def test_npz_of_one_set_is_split(tmp_path, keys):
    path = tmp_path / "mine.npz"
    np.savez(path, **{keys[0]: images(), keys[1]: two_classes()})
    split = load_images(path)
    assert (len(split.train), len(split.test)) == (16, 4)
    assert split.train.class_names == ("0", "1")
    assert split.train.names[0].startswith("mine/")


def test_npz_with_sides_keeps_them(tmp_path):
    path = tmp_path / "mine.npz"
    x, y = images(30), two_classes(30)
    np.savez_compressed(path, x_train=x[:20], y_train=y[:20], x_test=x[15:], y_test=y[15:])
    split = load_images(path)
    assert len(split.test) == 15
    assert len(split.train) == 15
    assert split.train.names[0] == "mine/train/0"
    assert "5 train images are also in the test set" in split.notes[0]
    pooled = load_images(path, resplit=True)
    assert abs(len(pooled.test) - 7) <= 2


@pytest.mark.parametrize(
    ("tail", "shape"),
    [
        ((6, 5), (1, 6, 5)),
        ((6, 5, 1), (1, 6, 5)),
        ((6, 5, 3), (3, 6, 5)),
        ((3, 6, 5), (3, 6, 5)),
        ((1, 6, 5), (1, 6, 5)),
    ],
)
def test_channels_may_stand_last_or_first(tail, shape):
    split = load_images((images(20, *tail), two_classes()))
    assert split.train.shape == shape


def test_grey_stored_as_rgb_becomes_grey():
    grey = np.repeat(images()[..., None], 3, axis=3)
    assert load_images((grey, two_classes())).train.shape == (1, 6, 5)
    assert load_images((grey, two_classes()), channels=3).train.shape == (3, 6, 5)


def test_floats_are_taken_by_their_range_and_said_so():
    x = images()
    whole = load_images((x, two_classes()))
    unit = load_images((x / 255, two_classes()))
    byte = load_images((x.astype(np.float32), two_classes()))
    assert (unit.train.pixels == whole.train.pixels).all()
    assert (byte.train.pixels == whole.train.pixels).all()
    assert unit.notes == ("arrays: floats taken to run over 0..1",)
    assert byte.notes == ("arrays: floats taken to run over 0..255",)


def test_sixteen_bits():
    x = images()
    split = load_images((x.astype(np.uint16) * 257, two_classes()))
    assert (split.train.pixels == load_images((x, two_classes())).train.pixels).all()
    dark = load_images((x.astype(np.uint16) * 16, two_classes()))
    assert any("12-bit camera" in note for note in dark.notes)
    assert load_images((x.astype(np.uint16), two_classes())).train.pixels.max() > 200


def test_labels_may_be_strings_and_two_sides_share_their_names():
    x = images(30)
    words = np.array(["ok", "scratch"])[two_classes(30)]
    split = load_images(((x[:20], words[:20].tolist()), (x[20:], np.append(words[20:-1], "new"))))
    assert split.train.class_names == ("new", "ok", "scratch")
    assert split.train.counts() == {"new": 0, "ok": 10, "scratch": 10}
    assert split.notes == ("1 test class is absent from training: new",)


def test_labels_keep_their_order_as_numbers():
    assert load_images((images(30), np.arange(30) % 3 * 5 - 5)).train.class_names == ("-5", "0", "5")
    assert load_images((images(24), np.arange(24) % 2 * 8.0 + 2)).train.class_names == ("2", "10")


def test_large_arrays_are_squeezed_unless_a_size_is_said():
    x = images(10, 150, 150)
    split = load_images((x, two_classes(10)))
    assert split.train.shape == (1, 64, 64)
    assert "squeezed to 64×64" in split.notes[0]
    assert load_images((x, two_classes(10)), size=150).train.shape == (1, 150, 150)


def test_notes_are_also_warnings():
    with pytest.warns(DataWarning, match="floats taken"):
        load_images((images() / 255, two_classes()))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ((images(), two_classes(19)), "20 images and 19 labels"),
        ((images(), np.where(two_classes() > 0, np.nan, 1.0)), "10 of 20 labels are NaN"),
        ((images(), two_classes() + 0.5), "fractions"),
        ((images(), [None] * 20), "mixed or missing"),
        ((images(), np.eye(20)), "labels have shape [20, 20]"),
        ((images(), np.zeros(20, int)), "only '0'"),
        ((images(), np.arange(20)), "there is none"),
        ((images(20, 6, 5, 4), two_classes()), "images have shape [20, 6, 5, 4]"),
        ((images(20, 6)[:, 0], two_classes()), "images have shape [20]"),
        ((images() - 1.0, two_classes()), "run from -1"),
        ((images() * 300.0, two_classes()), "scale them"),
        ((images() * np.nan, two_classes()), "not finite"),
        ((np.full((20, 6, 5), "x"), two_classes()), "of type <U1"),
        ((images()[:0], []), "there are no images"),
        ((images(),), "got 1 part"),
        (((images(), two_classes()), (images(20, 7, 7), two_classes())), "differ in shape"),
        (((images(), two_classes()), (images(), ["a"] * 20)), "differ in type"),
        (3, "cannot be loaded from a int"),
        ("mnits", "did you mean mnist"),
        ("no/such/folder", "no such path exists"),
        (__file__, "is a file"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_one_line(spec, says):
    with pytest.raises(InputError) as caught:
        load_images(spec)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"size": 0},
        {"size": (8, 8, 8)},
        {"size": "big"},
        {"size": (8, 1e9)},
        {"channels": 2},
        {"per_class": 1},
        {"test_fraction": 0},
        {"test_fraction": float("nan")},
        {"seed": -1},
    ],
)
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(InputError):
        load_images("digits", **options)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PK\x03\x04 not a zip", "damaged"),
        (b"", "damaged"),
        (b"text", "damaged"),
        ({"a": np.zeros(3)}, "holds a; save images and labels"),
        ({"images": np.array([{}] * 3), "labels": np.zeros(3)}, "Python objects"),
    ],
)
def test_bad_npz_files_give_one_line(tmp_path, content, says):
    path = tmp_path / "bad.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **content)
    with pytest.raises(InputError) as caught:
        load_images(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_truncated_npz_gives_one_line(tmp_path):
    path = tmp_path / "cut.npz"
    np.savez_compressed(path, images=images(), labels=two_classes())
    whole = bytearray(path.read_bytes())
    whole[80:120] = bytes(40)
    path.write_bytes(whole)
    with pytest.raises(InputError, match="damaged"):
        load_images(path)
