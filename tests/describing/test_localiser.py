"""A sharpened eye: it learns place and extent from texts and masks, and the run itself stays as it is."""

import csv
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from mekiki import Embedder
from mekiki.cases.encoders import open_photo_encoder
from mekiki.data.reports import PLACES, measure_defect
from mekiki.describing.localiser import Localiser, moved_places, rotate
from mekiki.describing.part_features import PartExtractor
from mekiki.describing.part_training import TrainConfig
from mekiki.describing.train_describer import train_describer
from mekiki.describing.train_localiser import train_localiser
from mekiki.errors import InputError
from mekiki.storage.json_files import write_json
from mekiki.storage.run_folder import LOCALISER
from parts import held_elsewhere

SIDE = 24
VALUES = {"place": [*sorted(PLACES), "none"]}
VIEWS = [(turns, flip) for flip in (False, True) for turns in range(4)]
QUICK = TrainConfig(epochs=8, batch=24, rate=4e-3, decay=0.02)


def spot(place, radius, dark, rng):
    """A grey part with a spot, and the mask of it."""
    row, column = divmod(PLACES.index(place), 3)
    y, x = np.ogrid[:SIDE, :SIDE]
    centre = [(each + 0.5) * SIDE / 3 for each in (row, column)]
    mask = (y + 0.5 - centre[0]) ** 2 + (x + 0.5 - centre[1]) ** 2 <= radius**2
    pixels = rng.normal(128, 6, (SIDE, SIDE)) + np.where(mask, -70 if dark else 70, 0)
    return np.clip(pixels, 0, 255).astype(np.uint8), mask


@pytest.fixture(scope="module")
def spots(tmp_path_factory):
    """Parts of two kinds in nine places and two sizes: photographs, masks, and what was written."""
    folder, rng = tmp_path_factory.mktemp("spots"), np.random.default_rng(0)
    for name in ("photos", "masks"):
        (folder / name).mkdir()
    rows = []
    for number in range(216):
        place, dark, large = PLACES[number % 9], number // 9 % 2, number // 18 % 2
        pixels, mask = spot(place, 3.6 if large else 2.1, dark, rng)
        name = f"{number:03}.png"
        Image.fromarray(pixels).save(folder / "photos" / name)
        Image.fromarray(mask).save(folder / "masks" / name)
        kind, size = ("pit", "blot")[dark], ("minor", "severe")[large]
        rows.append([name, f"a {size} {kind}, {place}", kind, place, size])
    with (folder / "photos" / "texts.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["file", "text", "defect", "place", "severity"])
        writer.writerows(rows)
    return folder


def trained(folder, pixels, labels, **settings):
    """A run folder of an embedder."""
    Embedder("softmax", epochs=1, batch_size=32, **settings).fit(pixels, labels).save(folder)
    write_json(folder / "metrics.json", {})  # which says that the run is complete
    return folder


@pytest.fixture(scope="module")
def run_once(tmp_path_factory):
    """A small convolutional run that tells dark spots from bright ones."""
    rng = np.random.default_rng(1)
    labels = np.arange(96) % 2
    pixels = np.stack([spot(PLACES[i // 2 % 9], 3, label, rng)[0] for i, label in enumerate(labels)])
    return trained(tmp_path_factory.mktemp("runs") / "run", pixels, labels, dim=8, encoder="vgg")


@pytest.fixture(scope="module")
def sharp_once(run_once, spots, tmp_path_factory):
    """The same, sharpened with masks."""
    folder = tmp_path_factory.mktemp("sharp") / "run"
    shutil.copytree(run_once, folder)
    told = train_localiser(folder, spots / "photos" / "texts.csv", masks=spots / "masks", config=QUICK)
    return folder, told


@pytest.mark.parametrize("view", VIEWS)
def test_a_place_goes_along_when_a_photograph_is_rotate(view):
    for place in PLACES:
        _, mask = spot(place, 2, 0, np.random.default_rng(0))
        moved = rotate(torch.from_numpy(mask)[None], view)[0].numpy()
        place_now = VALUES["place"][moved_places(VALUES, view)[VALUES["place"].index(place)]]
        assert measure_defect(moved).place == place_now
    assert VALUES["place"][moved_places(VALUES, view)[-1]] == "none"


def test_places_by_other_names_stay_where_they_are():
    assert moved_places({"place": ["door", "window"]}, (1, True)).tolist() == [0, 1]


def test_it_learns_where_and_how_large(sharp_once):
    _, told = sharp_once
    assert told["marked"] == told["parts"] == 216
    assert told["right"]["place"] > 0.8 > 0.4 > told["frequent"]["place"]
    assert told["right"]["severity"] > 0.8 > told["frequent"]["severity"]


def test_its_marks_lie_where_the_defect_is(sharp_once, spots):
    sharp = Localiser.load(sharp_once[0] / LOCALISER, open_photo_encoder(sharp_once[0]).extractor)
    pixels, mask = spot("lower left", 3.6, 1, np.random.default_rng(7))
    (places,) = sharp.extract([pixels])[1]
    cells = 4  # of a patch, and for each nothing, blot, pit
    marks = places[..., -3 * cells :].reshape(*places.shape[:2], 3, cells)
    covered = marks[:, :, 1:].sum(axis=(2, 3)) / cells
    row, column = np.unravel_index(covered.argmax(), covered.shape)
    height, width = covered.shape
    assert mask[int((row + 0.5) * SIDE / height), int((column + 0.5) * SIDE / width)]
    assert covered[0, -1] < 0.2


def test_a_photograph_reads_the_same_alone_and_among_others(sharp_once):
    sharp = Localiser.load(sharp_once[0] / LOCALISER, open_photo_encoder(sharp_once[0]).extractor)
    rng = np.random.default_rng(3)
    images = [spot(place, 3, 0, rng)[0] for place in PLACES]
    together, places = sharp.extract(images)
    alone, place = sharp.extract(images[4:5])
    assert np.array_equal(together[4], alone[0])
    assert np.array_equal(places[4], place[0])


def test_the_run_itself_stays_as_it_is(sharp_once, run_once, spots):
    photograph = spots / "photos" / "000.png"
    (before,) = open_photo_encoder(run_once).extract([photograph])
    (after,) = open_photo_encoder(sharp_once[0]).extract([photograph])
    assert np.array_equal(before.vector, after.vector)
    ((_, vectors),) = PartExtractor(sharp_once[0]).extract([photograph])
    assert np.array_equal(vectors.whole[0, :8], before.vector)
    assert vectors.whole.shape[1] == 8 + 2 + 9 + 2


def test_one_that_was_interrupted_goes_on_to_the_same_bit(run_once, spots, tmp_path):
    texts = spots / "photos" / "texts.csv"
    short = TrainConfig(epochs=3, batch=24, rate=4e-3, decay=0.02)
    whole, cut = (shutil.copytree(run_once, tmp_path / name) for name in ("whole", "cut"))
    train_localiser(whole, texts, config=short)

    def stop(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_localiser(cut, texts, config=short, on_epoch=stop)
    assert not (cut / LOCALISER).exists()
    train_localiser(cut, texts, config=short, resume=True)
    name = "sharp.safetensors"
    assert (cut / LOCALISER / name).read_bytes() == (whole / LOCALISER / name).read_bytes()
    assert not list(cut.glob("*checkpoint*"))


@pytest.mark.slow
def test_a_describer_that_learnt_before_the_sharpening_is_refused(mekiki, run_once, spots, tmp_path):
    run, texts = shutil.copytree(run_once, tmp_path / "run"), tmp_path / "texts.csv"
    with (spots / "photos" / "texts.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.reader(handle))[:61]
    with texts.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows(
            [rows[0], *([str(spots / "photos" / row[0]), *row[1:]] for row in rows[1:])]
        )
    config = TrainConfig(epochs=1, batch=8)
    train_describer(run, texts, config=config)
    assert mekiki("describe", run, spots / "photos" / "000.png").code == 0
    told = mekiki("sharpen", run, "--texts", texts, "--epochs", "1")
    assert told.code == 0, told.err
    assert "place:" in told.out
    refused = mekiki("describe", run, spots / "photos" / "000.png")
    assert refused.code == 2
    assert "`mekiki describe-train` again" in refused.error


def test_one_of_another_network_is_refused(sharp_once, run_once, tmp_path):
    run = shutil.copytree(sharp_once[0], tmp_path / "run")
    pixels = np.stack(
        [spot(place, 3, i % 2, np.random.default_rng(i))[0] for i, place in enumerate(PLACES * 4)]
    )
    trained(tmp_path / "other", pixels, np.arange(36) % 2, dim=8, encoder="vgg", random_state=5)
    shutil.copytree(run / LOCALISER, tmp_path / "other" / LOCALISER)
    with pytest.raises(InputError, match="another network"):
        PartExtractor(tmp_path / "other")


def test_what_cannot_be_sharpened_is_told(run_once, spots, tmp_path):
    pixels = np.zeros((8, SIDE, SIDE), np.uint8)
    pixels[::2] = 255
    trained(tmp_path / "flat", pixels, np.arange(8) % 2)
    texts = spots / "photos" / "texts.csv"
    with pytest.raises(InputError, match="convolutional"):
        train_localiser(tmp_path / "flat", texts)
    run = shutil.copytree(run_once, tmp_path / "run")
    with pytest.raises(InputError, match="holds no mask"):
        train_localiser(run, texts, masks=tmp_path)
    plain = tmp_path / "plain.csv"
    plain.write_text(f"file,text\n{spots / 'photos' / '000.png'},a spot\n")
    with pytest.raises(InputError, match="defect, place and severity"):
        train_localiser(run, plain)
    assert not (run / LOCALISER).exists()


def test_a_sharpened_run_still_finds_its_past_cases(mekiki, sharp_once, spots, tmp_path):
    pytest.importorskip("lancedb")
    run = shutil.copytree(sharp_once[0], tmp_path / "run")
    photographs = [spots / "photos" / f"{number:03}.png" for number in range(20)]
    assert mekiki("remember", run, *photographs).code == 0
    found = mekiki("search", run, photographs[4], "-k", "3", "--json").json["found"]
    told = mekiki("describe", run, photographs[4], "--format", "json").json
    assert told["cases"] == [case["id"] for case in found]


def test_a_second_sharpening_at_the_same_time_is_told(sharp_once, spots):
    folder, _ = sharp_once
    held = held_elsewhere(folder / LOCALISER, "sharpening", role="training")
    with held, pytest.raises(InputError, match="is sharpening"):
        train_localiser(folder, spots / "photos" / "texts.csv", config=QUICK)
