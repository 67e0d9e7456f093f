"""Generated parts: sizes, seeds, and defects that change a place of the part and nothing else."""

import numpy as np
import pytest
from benchmarks import generated_parts
from benchmarks.generated_parts import KINDS, draw_part, write_parts
from PIL import Image

from mekiki.data.photo import list_photos
from mekiki.errors import InputError

DEFECTS = [(kind, defect) for kind, each in KINDS.items() for defect in each.defects]
SIZE = (160, 200)


def changed(good, bad):
    """Where two photographs differ: bool `[h, w]`."""
    different = good != bad
    return different.any(axis=2) if good.ndim == 3 else different


@pytest.mark.parametrize("kind", KINDS)
def test_photographs_have_the_size_asked_for_and_follow_the_seed(kind):
    photo = draw_part(kind, 1, size=SIZE)
    assert photo.dtype == np.uint8
    assert photo.shape[:2] == SIZE
    assert draw_part(kind, 1, size=(97, 96)).shape[:2] == (97, 96)
    assert draw_part(kind, 1).shape[:2] == KINDS[kind].size
    np.testing.assert_array_equal(draw_part(kind, 1, size=SIZE), photo)
    for other in (draw_part(kind, 1, seed=1, size=SIZE), draw_part(kind, 2, size=SIZE)):
        assert changed(photo, other).mean() > 0.5
    assert 20 < photo.mean() < 235
    assert photo.std() > 5


@pytest.mark.parametrize(("kind", "defect"), DEFECTS)
def test_a_defect_changes_one_place_of_the_part(kind, defect):
    for number in range(3):
        good, bad = (draw_part(kind, number, each, size=(200, 240)) for each in (None, defect))
        where = changed(good, bad)
        assert 3 <= where.sum() < 0.2 * where.size
        assert np.abs(good.astype(int) - bad).max() >= 5


def test_defects_of_a_kind_lie_at_other_places_of_other_parts():
    boxes = set()
    for number in range(4):
        where = changed(*(draw_part("fabric", number, each, size=SIZE) for each in (None, "hole")))
        boxes.add(tuple(np.argwhere(where).mean(axis=0).round().astype(int)))
    assert len(boxes) == 4


def test_parts_of_a_lot_are_more_alike_than_those_of_two(monkeypatch):
    monkeypatch.setattr(generated_parts, "LOTS", 1)
    alike = np.std([draw_part("grain", number, size=SIZE).mean() for number in range(12)])
    monkeypatch.setattr(generated_parts, "LOTS", 50)
    apart = np.std([draw_part("grain", number, size=SIZE).mean() for number in range(12)])
    assert alike < apart


def test_a_set_has_folders_of_ok_and_of_each_defect(tmp_path):
    write_parts(tmp_path, "screws", ok=2, ng=6, size=(96, 96), seed=3)
    assert [path.name for path in list_photos([tmp_path / "ok"])] == ["00000.png", "00001.png"]
    found = {path.parent.name for path in list_photos([tmp_path / "ng"])}
    assert found == {defect.replace(" ", "_") for defect in KINDS["screws"].defects}
    first = tmp_path / "ng" / "damaged_thread" / "00002.png"
    expected = draw_part("screws", 2, "damaged thread", seed=3, size=(96, 96))
    np.testing.assert_array_equal(np.asarray(Image.open(first)), expected)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("plates", 0, None), "plates"),
        (("bars", 0, "burr"), "burr"),
    ],
)
def test_unknown_names_are_refused(words, message):
    with pytest.raises(InputError, match=message):
        draw_part(*words)


def test_a_photograph_without_room_for_a_part_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="96 pixels"):
        generated_parts.main([str(tmp_path), "boards", "--size", "40", "400"])
    generated_parts.main([str(tmp_path), "fabric", "--ok", "1", "--ng", "1", "--size", "96", "96"])
    assert capsys.readouterr().out == f"{tmp_path / 'fabric'}: 1 OK, 1 NG\n"
