"""Folders of images: layouts, formats, bad files, splits, memory maps; single files and streams without labels."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mekiki.data import decoding, pixel_cache
from mekiki.data.decoding import decode, read_header
from mekiki.data.image_set import content_hashes
from mekiki.data.load import load_images, load_one
from mekiki.data.streaming import iter_images, read_images
from mekiki.errors import DataWarning, InputError

pytestmark = pytest.mark.filterwarnings("ignore::mekiki.errors.DataWarning")
TILES = Path(os.environ.get("MEKIKI_DATA", "")) / "magnetic_tile"
needs_tiles = pytest.mark.skipif(
    "MEKIKI_DATA" not in os.environ or not TILES.is_dir(), reason="MEKIKI_DATA holds no magnetic_tile"
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MEKIKI_CACHE", str(cache))
    return cache


def noise(seed, size=(12, 10), channels=1, top=256, dtype=np.uint8):
    shape = size if channels == 1 else (*size, channels)
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)


def save(path, array=None, seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed) if array is None else array).save(path, **options)
    return path


def fill(root, *classes, n=5, ending="png", first=0):
    for c, name in enumerate(classes):
        for i in range(n):
            save(root / name / f"{first + i:03}.{ending}", seed=1000 * c + first + i + 1)
    return root


def noted(split, text):
    return [note for note in split.notes if text in note]


# Layouts


def test_a_folder_per_class_is_split_class_by_class(tmp_path):
    split = load_images(fill(tmp_path, "ok", "ng", n=10))
    assert split.train.class_names == ("ng", "ok")
    assert split.train.counts() == {"ng": 8, "ok": 8}
    assert split.test.counts() == {"ng": 2, "ok": 2}
    assert not set(split.train.names) & set(split.test.names)
    assert split.notes == ()
    assert split.train.shape == (1, 12, 10)


def test_pixels_labels_and_names_stay_together(tmp_path):
    split = load_images(fill(tmp_path, "ok", "ng", n=10))
    for images in split:
        for pixels, label, name in zip(images.pixels, images.labels, images.names, strict=True):
            assert (np.asarray(Image.open(tmp_path / name)) == pixels).all()
            assert name.startswith(images.class_names[label] + "/")


def test_nested_folders_belong_to_their_class_and_hidden_files_to_none(tmp_path):
    fill(tmp_path, "ok", "ng/monday/early", "ng/tuesday")
    for name in ("ok/.hidden.png", "ok/Thumbs.db", ".git/x.png", "ok/.DS_Store", "__MACOSX/ok/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    split = load_images(tmp_path)
    assert len(split.train) + len(split.test) == 15
    assert split.notes == ()


def test_train_and_test_folders_are_kept_as_they_are(tmp_path):
    fill(tmp_path / "Train", "ok", "ng", n=6)
    fill(tmp_path / "val", "ok", "ng", "odd", n=2, first=50)
    split = load_images(tmp_path)
    assert split.train.counts() == {"ng": 6, "odd": 0, "ok": 6}
    assert split.test.counts() == {"ng": 2, "odd": 2, "ok": 2}
    assert noted(split, "absent from training: odd")
    assert all(name.startswith("val/") for name in split.test.names)


def test_test_comes_before_val_and_the_rest_is_named(tmp_path):
    for side, first in (("train", 0), ("test", 50), ("valid", 80)):
        fill(tmp_path / side, "ok", "ng", n=3, first=first)
    split = load_images(tmp_path)
    assert len(split.test) == 6
    assert noted(split, "1 folder beside train and test not used: valid")


def test_train_alone_is_split(tmp_path):
    split = load_images(fill(tmp_path / "train", "ok", "ng", n=5).parent)
    assert len(split.test) == 2
    assert noted(split, "train is split")


def test_a_class_may_be_called_train(tmp_path):
    assert load_images(fill(tmp_path, "train", "plane")).train.class_names == ("plane", "train")


def mvtec(root):
    for i in range(8):
        save(root / "train" / "good" / f"{i:03}.png", seed=i)
    for i in range(3):
        save(root / "test" / "good" / f"{i:03}.png", seed=100 + i)
    for i in range(4):
        save(root / "test" / "dent" / f"{i:03}.png", seed=200 + i)
        mask = np.zeros((24, 20), np.uint8)
        mask[:12] = 255
        if i:
            save(root / "ground_truth" / "dent" / f"{i:03}_mask.png", mask)
    return root


def test_mvtec_as_it_is_has_good_images_to_learn_from_and_all_to_test_on(tmp_path):
    train, test = load_images(mvtec(tmp_path), least_classes=1, size=12)
    assert (train.counts(), test.counts()) == ({"dent": 0, "good": 8}, {"dent": 4, "good": 3})
    assert not train.masks.any()
    assert [bool(mask.any()) for mask in test.masks[test.labels == 0]] == [False, True, True, True]


def test_a_test_fraction_of_one_tests_on_every_image(tmp_path):
    train, test = load_images(fill(tmp_path, "a", "b"), test_fraction=1)
    assert len(train) == 0
    assert set(test.counts().values()) == {len(test) // 2}
    pooled = load_images(mvtec(tmp_path / "part"), test_fraction=1, resplit=True)
    assert (len(pooled.train), len(pooled.test)) == (0, 15)


def test_mvtec_needs_resplit_and_then_brings_masks(tmp_path):
    mvtec(tmp_path)
    with pytest.raises(InputError, match="--resplit"):
        load_images(tmp_path)
    split = load_images(tmp_path, resplit=True)
    assert split.train.class_names == ("dent", "good")
    assert len(split.train) + len(split.test) == 15
    for images in split:
        for mask, name in zip(images.masks, images.names, strict=True):
            assert mask.shape == (12, 10)
            if "dent" in name and "000" not in name:
                assert mask[:6].all()
                assert not mask[6:].any()
            else:
                assert not mask.any()
    assert noted(split, "1 test image without a readable mask: test/dent/000.png")


def test_numbered_classes_are_in_the_order_of_their_numbers(tmp_path):
    assert load_images(fill(tmp_path, "2", "10", "1")).train.class_names == ("1", "2", "10")


def test_japanese_names(tmp_path):
    split = load_images(fill(tmp_path / "検査画像", "良品", "不良 品"))
    assert split.train.class_names == ("不良 品", "良品")


def test_links_are_followed_but_not_in_circles(tmp_path):
    fill(tmp_path / "data", "ok", "ng")
    fill(tmp_path, "elsewhere", first=500)
    (tmp_path / "data" / "ok" / "back").symlink_to(tmp_path / "data", target_is_directory=True)
    (tmp_path / "data" / "ok" / "self").symlink_to(tmp_path / "data" / "ok", target_is_directory=True)
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "data" / "ng" / "nowhere.png").symlink_to(tmp_path / "gone.png")
    split = load_images(tmp_path / "data")
    assert split.train.counts()["linked"] == 4
    assert noted(split, "1 file skipped, unreadable or cut short: ng/nowhere.png")


# Formats


@pytest.mark.parametrize("ending", ["png", "JPG", "jpeg", "bmp", "tif", "TIFF", "WebP"])
def test_every_format_is_read_in_any_letter_case(tmp_path, ending):
    split = load_images(fill(tmp_path, "ok", "ng", ending=ending))
    assert len(split.train) + len(split.test) == 10
    assert split.train.shape == (1, 12, 10)


def test_colour_is_kept_only_where_there_is_any(tmp_path):
    fill(tmp_path, "ok", "ng")
    grey_in_rgb = np.repeat(noise(7)[..., None], 3, axis=2)
    save(tmp_path / "ok" / "rgb.png", grey_in_rgb)
    assert load_images(tmp_path).train.shape[0] == 1
    assert load_images(tmp_path, channels=3).train.shape[0] == 3
    save(tmp_path / "ok" / "colour.png", noise(8, channels=3))
    assert load_images(tmp_path).train.shape[0] == 3
    assert load_images(tmp_path, channels=1).train.shape[0] == 1


def test_sixteen_bits_are_divided_by_256_for_every_image_alike(tmp_path):
    for ending in ("png", "tif"):
        deep = noise(1, top=65536, dtype=np.uint16)
        decoded = decode(save(tmp_path / f"deep.{ending}", deep), None, 1)
        assert (decoded.pixels == deep // 256).all()
        assert decoded.highest_of_16_bit == deep.max()


def test_twelve_bit_cameras_are_pointed_out(tmp_path):
    for c in ("ok", "ng"):
        for i in range(4):
            save(tmp_path / c / f"{i}.png", noise(i + 10 * len(c) + ord(c[0]), top=4096, dtype=np.uint16))
    split = load_images(tmp_path)
    assert noted(split, "12-bit camera")
    save(tmp_path / "ok" / "bright.png", noise(99, top=65536, dtype=np.uint16))
    assert not noted(load_images(tmp_path), "12-bit camera")


def test_one_bit_images_and_floats(tmp_path):
    bits = save(tmp_path / "bits.png", noise(1) > 128)
    assert set(np.unique(decode(bits, None, 1).pixels)) == {0, 255}
    unit = save(tmp_path / "unit.tif", np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5))
    assert decode(unit, None, 1).pixels.max() == 255
    assert decode(unit, None, 1).float_range == "0..1"
    byte = save(tmp_path / "byte.tif", np.linspace(0, 200, 20, dtype=np.float32).reshape(4, 5))
    assert decode(byte, None, 1).pixels.max() == 200
    for bad in (
        np.full((4, 5), np.nan, np.float32),
        np.full((4, 5), -1, np.float32),
        np.full((4, 5), 70000, np.int32),
    ):
        with pytest.raises(InputError, match="cannot be read"):
            decode(save(tmp_path / "bad.tif", bad), None, 1)


def test_transparency_is_laid_on_white(tmp_path):
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[:2, :, 3] = 255
    assert decode(save(tmp_path / "rgba.png", clear), None, 1).pixels[:, 0].tolist() == [0, 0, 255, 255]
    palette = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)).convert("P")
    palette.putpalette([200, 10, 10, 0, 0, 0])
    palette.save(tmp_path / "palette.png", transparency=1)
    pixels = decode(tmp_path / "palette.png", None, 3).pixels
    assert pixels[0, 0].tolist() == [200, 10, 10]
    assert pixels[0, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("ending", "options"),
    [("jpg", {}), ("png", {}), ("tif", {}), ("tif", {"compression": "tiff_lzw"}), ("webp", {})],
)
def test_exif_orientation_is_honoured(tmp_path, ending, options):
    picture = np.zeros((40, 80), np.uint8)
    picture[:, :40] = 255  # bright on the left, so bright on top once it is turned
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / f"turned.{ending}", picture, exif=exif.tobytes(), **options)
    header = read_header(path)
    assert (header.height, header.width) == (80, 40)
    pixels = decode(path, None, 1).pixels
    assert pixels.shape == (80, 40)
    assert pixels[:30].mean() > 200 > 50 > pixels[50:].mean()


def test_large_jpegs_keep_their_brightness_when_decoded_small(tmp_path):
    ramp = np.tile(np.linspace(0, 255, 1600).astype(np.uint8), (1200, 1))
    small = decode(save(tmp_path / "large.jpg", ramp, quality=95), (24, 32), 1).pixels
    expected = ramp.reshape(24, 50, 32, 50).mean(axis=(1, 3))
    assert np.abs(small.astype(float) - expected).max() < 6


# Sizes


def test_mixed_sizes_are_squeezed_and_noted(tmp_path):
    fill(tmp_path, "ok", "ng")
    save(tmp_path / "ok" / "wide.png", noise(1, (30, 200)))
    split = load_images(tmp_path)
    assert split.train.shape == (1, 64, 64)
    assert noted(split, "2 sizes (12×10 … 30×200) px are squeezed to 64×64 px")


def test_enlarging_is_noted_with_names(tmp_path):
    split = load_images(fill(tmp_path, "ok", "ng"), size=(16, 10))
    assert split.train.shape == (1, 16, 10)
    assert noted(split, "10 images enlarged to 16×10 px, which adds no detail: ng/000.png")


def test_a_common_size_above_128_px_is_squeezed(tmp_path):
    for i in range(3):
        save(tmp_path / "ok" / f"{i}.png", noise(i, (129, 20)))
        save(tmp_path / "ng" / f"{i}.png", noise(10 + i, (129, 20)))
    assert load_images(tmp_path).train.shape == (1, 64, 64)
    assert load_images(tmp_path, size=(129, 20)).train.shape == (1, 129, 20)


# What is skipped


def bomb(path, side=20_000):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )
    return path


def test_bad_files_are_skipped_counted_and_named(tmp_path):
    fill(tmp_path, "ok", "ng", ending="jpg")
    for i in range(4):
        whole = save(tmp_path / "whole.jpg", noise(70 + i, (60, 60))).read_bytes()
        (tmp_path / "ok" / f"cut{i}.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "whole.jpg").unlink()
    (tmp_path / "ng" / "text.png").write_text("no image")
    bomb(tmp_path / "ng" / "bomb.png", 11_000)
    bomb(tmp_path / "ng" / "bigger.png", 60_000)
    (tmp_path / "ng" / "list.csv").write_text("a,b")
    (tmp_path / "empty").mkdir()
    save(tmp_path / "loose.png", seed=77)
    with pytest.warns(DataWarning) as warned:
        split = load_images(tmp_path)
    assert len(split.train) + len(split.test) == 10
    assert set(split.notes) >= {
        "5 files skipped, unreadable or cut short: ng/text.png, ok/cut0.jpg, ok/cut1.jpg and 2 more",
        "2 files skipped, more than 100 megapixels: ng/bigger.png, ng/bomb.png",
        "1 file is no image, by the name: ng/list.csv",
        "1 image beside the class folders left out: loose.png",
        "1 class folder without images left out: empty",
    }
    assert [str(w.message) for w in warned if w.category is DataWarning] == list(split.notes)


def test_a_folder_that_is_mostly_unreadable_is_refused(tmp_path):
    fill(tmp_path, "ok", "ng", n=3)
    for i in range(7):
        (tmp_path / "ok" / f"bad{i}.png").write_bytes(b"bad")
    with pytest.raises(InputError, match="7 of 13 files cannot be read"):
        load_images(tmp_path)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda root: root.mkdir(exist_ok=True), "holds no png"),
        (lambda root: save(root / "1.png"), "1 image but no class folder"),
        (lambda root: (root / "ok").mkdir(), "holds no png"),
        (lambda root: fill(root, "ok"), "only 'ok'"),
        (
            lambda root: [
                save(root / c / f"{i}.png", seed=i + len(c)) for c in ("a", "bbb") for i in range(2)
            ],
            "no image is",
        ),
        (lambda root: [fill(root, "ok"), save(root / "ng" / "1.png", seed=99)], "only 'ok'"),
    ],
)
def test_folders_that_cannot_teach_anything_are_refused(tmp_path, make, says):
    make(tmp_path)
    with pytest.raises(InputError) as caught:
        load_images(tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_small_classes(tmp_path):
    fill(tmp_path, "ok", "ng", n=5)
    for name, n in (("three", 3), ("two", 2), ("one", 1)):
        for i in range(n):
            save(tmp_path / name / f"{i}.png", seed=5000 + 10 * n + i)
    split = load_images(tmp_path)
    assert split.train.counts() == {"ng": 4, "ok": 4, "three": 2, "two": 2}
    assert split.test.counts() == {"ng": 1, "ok": 1, "three": 1, "two": 0}
    assert noted(split, "1 class with one image to learn from left out of training")
    assert noted(split, "1 class with two images stay in training")


# Copies


def test_copies_stay_on_one_side_and_conflicts_are_named(tmp_path):
    fill(tmp_path, "ok", "ng", n=20)
    for i in range(10):
        save(tmp_path / "ok" / f"copy{i}.bmp", seed=i + 1)
    save(tmp_path / "ng" / "doubtful.png", seed=20)
    split = load_images(tmp_path)
    assert noted(split, "11 images are copies of another, kept on the same side")
    assert noted(split, "1 image has the same content as one of another class: ng/doubtful.png = ok/019.png")
    hashes = [set(content_hashes(images.pixels).tolist()) for images in split]
    assert not hashes[0] & hashes[1]


def test_train_copies_of_test_images_are_dropped(tmp_path):
    fill(tmp_path / "train", "ok", "ng", n=6)
    fill(tmp_path / "test", "ok", "ng", n=2)
    split = load_images(tmp_path)
    assert (len(split.train), len(split.test)) == (8, 4)
    assert noted(split, "4 train images are also in the test set and left out of training: train/ng/000.png")


# Repeatable


def test_the_split_follows_the_seed_and_not_the_file_system(tmp_path, monkeypatch):
    fill(tmp_path, "ok", "ng", n=10)
    first = load_images(tmp_path, seed=3).test.names
    assert load_images(tmp_path, seed=4).test.names != first
    assert load_images(tmp_path, seed=3, size=6).test.names == first
    listing = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: reversed(list(listing(self))))
    assert load_images(tmp_path, seed=3).test.names == first


def test_per_class_saves_decoding(tmp_path):
    fill(tmp_path, "ok", "ng", n=20)
    calls = []
    split = load_images(tmp_path, per_class=4, progress=lambda *call: calls.append(call))
    assert split.train.counts() == {"ng": 4, "ok": 4}
    assert split.test.counts() == {"ng": 1, "ok": 1}
    assert calls[-1] == ("decoding images", 10, 10)


# More than memory should hold


def test_many_pixels_go_to_memory_maps_that_are_used_again(tmp_path, monkeypatch, own_cache):
    mvtec(tmp_path)
    plain = load_images(tmp_path, resplit=True)
    monkeypatch.setattr(pixel_cache, "MEMORY_BUDGET", 100)
    split = load_images(tmp_path, resplit=True)
    stored = sorted(path.name.partition(".")[2] for path in (own_cache / "pixels").iterdir())
    assert stored == ["json", "test-masks.npy", "test.npy", "train-masks.npy", "train.npy"]
    monkeypatch.setattr("mekiki.data.folders.decode_blocks", None)  # from here on nothing may be decoded
    again = load_images(tmp_path, resplit=True)
    for loaded in (split, again):
        assert loaded.notes == plain.notes
        for mapped, held in zip(loaded, plain, strict=True):
            assert isinstance(mapped.pixels, np.memmap)
            assert (mapped.pixels == held.pixels).all()
            assert (mapped.masks == held.masks).all()
            assert (mapped.labels == held.labels).all()
            assert mapped.names == held.names
            assert mapped.class_names == held.class_names
            assert mapped.fingerprint() == held.fingerprint()


def test_memory_maps_follow_changes_of_files_and_settings(tmp_path, monkeypatch, own_cache):
    monkeypatch.setattr(pixel_cache, "MEMORY_BUDGET", 100)
    fill(tmp_path, "ok", "ng")
    grey_in_rgb = np.repeat(noise(7)[..., None], 3, axis=2)
    save(tmp_path / "ok" / "rgb.png", grey_in_rgb)
    assert load_images(tmp_path).train.shape == (1, 12, 10)
    save(tmp_path / "ok" / "000.png", noise(8, channels=3))
    assert load_images(tmp_path).train.shape == (3, 12, 10)
    assert load_images(tmp_path, size=6).train.shape == (3, 6, 6)
    assert len(list((own_cache / "pixels").glob("*.json"))) == 3


def test_damaged_memory_maps_are_made_anew(tmp_path, monkeypatch, own_cache):
    monkeypatch.setattr(pixel_cache, "MEMORY_BUDGET", 100)
    expected = load_images(fill(tmp_path, "ok", "ng")).train.fingerprint()
    for path in (own_cache / "pixels").iterdir():
        path.write_bytes(path.read_bytes()[:40])
    assert load_images(tmp_path).train.fingerprint() == expected


def test_a_cache_that_cannot_be_written_gives_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(pixel_cache, "MEMORY_BUDGET", 100)
    (tmp_path / "file").touch()
    monkeypatch.setenv("MEKIKI_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="MEKIKI_CACHE"):
        load_images(fill(tmp_path / "data", "ok", "ng"))


# Without labels


def test_read_images_takes_files_and_folders(tmp_path):
    fill(tmp_path, "a/b", "c", n=2)
    (tmp_path / "c" / "bad.png").write_bytes(b"bad")
    (tmp_path / "c" / "notes.txt").touch()
    single = save(tmp_path / "single.dat", seed=5, format="PNG")
    with pytest.warns(DataWarning):
        pixels, names, notes = read_images([single, tmp_path / "c"], size=(8, 8), channels=3)
    assert pixels.shape == (3, 8, 8, 3)
    assert [Path(name).name for name in names] == ["single.dat", "000.png", "001.png"]
    assert [note.partition(":")[0] for note in notes] == [
        "1 file is no image, by the name",
        "1 file skipped, unreadable or cut short",
    ]
    assert len(read_images(tmp_path / "a", size=(8, 8), channels=1)[0]) == 2


def test_the_stream_gives_blocks_and_notes_at_the_end(tmp_path):
    fill(tmp_path, "a", n=7)
    (tmp_path / "a" / "000.png").write_bytes(b"bad")
    stream = iter_images([tmp_path], size=(12, 10), channels=1, batch=3)
    assert len(stream) == 7
    blocks = iter(stream)
    next(blocks)
    assert stream.notes == []
    assert [len(pixels) for pixels, _ in blocks] == [3, 1]
    assert len(stream.notes) == 1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda root: [root / "missing.png"], "does not exist"),
        (lambda root: root, "no image to read"),
        (lambda root: [bomb(root / "a.png")], "none of 1 file can be read"),
        (lambda root: [], "no image to read"),
    ],
)
def test_nothing_to_read_is_one_line(tmp_path, make, says):
    with pytest.raises(InputError, match=says):
        read_images(make(tmp_path), size=(8, 8), channels=1)


def test_load_one_reads_a_file_or_a_reference(tmp_path):
    path = save(tmp_path / "x.png", seed=3)
    assert (load_one(path, size=(12, 10), channels=1) == noise(3)).all()
    digits = load_images("digits")
    assert (load_one("digits:train:3", size=8, channels=1) == digits.train.pixels[3]).all()
    assert load_one("digits:test:0", size=16, channels=3).shape == (16, 16, 3)
    with pytest.raises(InputError, match="digits has no image 99999"):
        load_one("digits:test:99999", size=8, channels=1)
    with pytest.raises(InputError, match="no such image file"):
        load_one("digit:test:1", size=8, channels=1)
    (tmp_path / "bad.png").write_bytes(b"bad")
    with pytest.raises(InputError, match=r"bad\.png: cannot be read \(not an image\)"):
        load_one(tmp_path / "bad.png", size=8, channels=1)


def test_decoding_uses_the_same_pixels_with_and_without_labels(tmp_path):
    fill(tmp_path, "ok", "ng")
    split = load_images(tmp_path, size=(6, 6))
    pixels, names, _ = read_images(tmp_path, size=(6, 6), channels=1)
    by_name = {
        Path(name).relative_to(tmp_path).as_posix(): image for name, image in zip(names, pixels, strict=True)
    }
    assert all(
        (by_name[n] == p).all() for images in split for n, p in zip(images.names, images.pixels, strict=True)
    )


def test_resized_arrays_equal_resized_files(tmp_path):
    path = save(tmp_path / "x.png", noise(4, (40, 30)))
    assert (
        decoding.resize_images(noise(4, (40, 30))[None], (9, 7), 1)[0] == decode(path, (9, 7), 1).pixels
    ).all()


# Real photographs


@needs_tiles
def test_magnetic_tiles():
    split = load_images(TILES)
    assert len(split.train) + len(split.test) <= 1344
    total = {name: split.train.counts()[name] + split.test.counts()[name] for name in split.train.class_names}
    assert total == {"blowhole": 115, "break": 85, "crack": 57, "fray": 32, "free": 952, "uneven": 103}
    assert split.train.shape == (1, 64, 64)
    assert len(split.notes) == 1
