"""Reports from masks: the facts are the mask's, and can be read back from every text."""

import csv
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mekiki.data.decoding import decode_mask
from mekiki.data.report_phrases import LANGUAGES
from mekiki.data.reports import (
    CLEAN,
    COLUMNS,
    LIMITS,
    PLACES,
    SEVERITIES,
    Report,
    facts_in,
    measure_defect,
    report_of,
    severity_of,
    write_reports,
)
from mekiki.data.surfaces import CLASSES, generate_surfaces
from mekiki.errors import InputError

SIDE = 60


def box(row, column, height, width):
    mask = np.zeros((SIDE, SIDE), bool)
    mask[row : row + height, column : column + width] = True
    return mask


masks = st.builds(
    lambda boxes: np.logical_or.reduce([box(*each) for each in boxes]),
    st.lists(
        st.tuples(st.integers(0, 59), st.integers(0, 59), st.integers(1, 50), st.integers(1, 50)),
        min_size=1,
        max_size=6,
    ),
)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(list(LIMITS)), masks, st.integers(0, 2**32), st.sampled_from(["en", "ja"]))
def test_facts_are_read_back_from_every_text_as_the_mask_has_them(defect, mask, seed, language):
    report = report_of(defect, mask, np.random.default_rng(seed), language)
    found = measure_defect(mask)
    facts = {"defect": defect, "place": found.place, "severity": severity_of(defect, found)}
    assert facts_in(report.text, language) == facts
    assert (report.defect, report.place, report.severity) == tuple(facts.values())
    assert report.cause
    assert report.repair
    assert "{" not in report.text


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("name", CLEAN)
def test_of_a_clean_part_every_text_says_that_nothing_was_found(language, name):
    for seed in range(40):
        report = report_of(name, np.zeros((9, 9), bool), np.random.default_rng(seed), language)
        assert {report.defect, report.place, report.severity} == {"none"}
        assert set(facts_in(report.text, language).values()) == {"none"}


@pytest.mark.parametrize("language", ["en", "ja"])
def test_no_cause_or_repair_names_a_fact_but_perhaps_its_own_defect(language):
    words = LANGUAGES[language]
    for table in (words.causes, words.repairs):
        for defect, phrases in table.items():
            for phrase in phrases:
                facts = facts_in(phrase, language)
                assert facts["defect"] in ("", defect), phrase
                assert not facts["place"], phrase
                assert not facts["severity"], phrase


@pytest.mark.parametrize("number", range(9))
def test_a_place_is_the_cell_of_a_grid_of_three_by_three(number):
    row, column = divmod(number, 3)
    assert measure_defect(box(20 * row + 6, 20 * column + 6, 8, 8)).place == PLACES[number]


def test_of_several_pieces_the_largest_says_where():
    assert measure_defect(box(2, 2, 9, 9) | box(50, 50, 5, 5) | box(2, 50, 3, 3)).place == "upper left"


def test_a_gap_of_a_pixel_does_not_part_a_line():
    line = box(30, 5, 1, 50)
    line[30, 20] = False
    assert measure_defect(line).pieces == 1
    assert measure_defect(line).length == pytest.approx(np.hypot(1 / 60, 50 / 60))


def test_a_longer_scratch_is_worse_and_a_wider_one_is_not():
    severities = [severity_of("scratch", measure_defect(box(5, 5, 1, width))) for width in (10, 35, 45)]
    assert severities == list(SEVERITIES)
    assert severity_of("scratch", measure_defect(box(5, 5, 12, 12))) == "minor"


def test_each_severity_is_well_filled_on_generated_surfaces():
    surfaces = generate_surfaces(per_class=150, seed=3)
    for kind, name in enumerate(CLASSES[1:], start=1):
        found = [severity_of(name, measure_defect(mask)) for mask in surfaces.masks[surfaces.labels == kind]]
        assert min(found.count(severity) for severity in SEVERITIES) > 150 * 0.2, name


@pytest.mark.parametrize("language", ["en", "ja"])
def test_wording_varies(language):
    texts = {
        report_of("stain", box(9, 9, 20, 20), np.random.default_rng(n), language).text for n in range(200)
    }
    assert len(texts) > 180


@pytest.mark.parametrize(
    ("defect", "mask", "language", "said"),
    [
        ("scratch", np.zeros((5, 5), bool), "en", "empty"),
        ("clean", np.ones((5, 5), bool), "en", "marks a defect"),
        ("dent", np.ones((5, 5), bool), "en", "dent"),
        ("pit", np.ones((5, 5), bool), "fr", "language"),
    ],
)
def test_what_cannot_be_reported_is_refused(defect, mask, language, said):
    with pytest.raises(InputError, match=said):
        report_of(defect, mask, np.random.default_rng(0), language)


def test_the_command_writes_surfaces_and_a_table_that_names_them(mekiki, tmp_path):
    said = mekiki("data", "reports", "out", "--count", 12, "--size", 32, "--json")
    assert said.code == 0, said.err
    assert (said.json["images"], said.json["reports"]) == (12, 24)
    with (tmp_path / "out" / "texts.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert tuple(rows[0]) == COLUMNS == ("file", *(field.name for field in fields(Report)))
    assert len(rows) == 24
    assert {row["file"] for row in rows} == {
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png")
    }
    for row in rows:
        facts = facts_in(row["text"], row["language"])
        assert facts == {name: row[name] for name in ("defect", "place", "severity")}
        assert row["file"].split("/")[0] == row["defect"].replace("none", "clean")


def test_the_same_seed_writes_the_same_and_a_folder_of_reports_is_replaced(tmp_path):
    for _ in range(2):
        write_reports(tmp_path / "one", count=5, size=(16, 16))
    write_reports(tmp_path / "two", count=5, size=(16, 16))
    write_reports(tmp_path / "other", count=5, size=(16, 16), seed=1)
    one, two, other = ((tmp_path / name / "texts.csv").read_bytes() for name in ("one", "two", "other"))
    assert one == two != other


def test_a_folder_that_holds_something_else_is_left_alone(mekiki, tmp_path):
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "a.png").write_bytes(b"mine")
    assert "something else" in mekiki("data", "reports", "photographs").error
    assert (tmp_path / "photographs" / "a.png").read_bytes() == b"mine"


def test_masks_go_into_a_folder_of_their_own_under_the_same_names(tmp_path):
    write_reports(tmp_path / "reports", count=10, size=(32, 32), seed=3, masks=tmp_path / "masks")
    surfaces = generate_surfaces((32, 32), per_class=2, seed=3)
    for name, mask in zip(surfaces.names, surfaces.masks, strict=True):
        _, kind, number = name.split("/")
        file = f"{kind}/{int(number) + 1:04}.png"
        assert (tmp_path / "reports" / file).is_file()
        assert np.array_equal(decode_mask(tmp_path / "masks" / file, (32, 32)), mask)
    with pytest.raises(InputError, match="is there already"):
        write_reports(tmp_path / "reports", count=10, masks=tmp_path / "masks")
