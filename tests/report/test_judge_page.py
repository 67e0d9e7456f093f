"""The page of judged photographs: what stands on it, and how it behaves in a real browser."""

import re
import shutil

import numpy as np
import pytest

from mekiki.judging.judge_photos import Inspector
from mekiki.judging.results import MOST_CARDS, judge_paths
from mekiki.judging.teach import teach
from mekiki.report.judge_page import Card, Gallery, red_overlay, write_gallery
from parts import images, part, save, wait_until

ATTACK = "<img src=x onerror=alert(1)>&\"'.png"


@pytest.fixture
def line(run, ng, fresh, tmp_path):
    """A folder of bad parts, good ones, one with a hostile name and one that cannot be read; and its page."""
    folder = tmp_path / "line"
    for number, path in enumerate([*images(ng)[:5], *images(fresh)[:6]]):
        folder.mkdir(exist_ok=True)
        shutil.copy(path, folder / f"{number:02}.png")
    save(folder / ATTACK, part(5500, blot=(48, 16), size=24))
    (folder / f"text {ATTACK}").write_text("no photograph")
    judge_paths(run, [folder], tmp_path / "page.html")
    return folder, tmp_path / "page.html"


@pytest.fixture
def visit(browser):
    """Open a page; gives it and the list of what left it or went wrong."""
    contexts = []

    def open_page(path):
        context = browser.new_context(viewport={"width": 1200, "height": 900})
        contexts.append(context)
        page, wrong = context.new_page(), []
        page.on(
            "request", lambda request: request.url.startswith(("file:", "data:")) or wrong.append(request.url)
        )
        page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.goto(path.as_uri(), wait_until="load")
        return page, wrong

    yield open_page
    for context in contexts:
        context.close()


def test_the_page_in_a_browser(line, run, visit):
    folder, path = line
    page, wrong = visit(path)
    verdicts = sorted(
        (one for one in Inspector.open(run).judge_files(images(folder)) if one.verdict != "unreadable"),
        key=lambda one: (one.verdict != "NG", -one.score),
    )
    cards = page.locator("li.card")
    # The worst first, each under its own name.
    assert [name.split(" ", 1)[1] for name in page.locator("p.name").all_inner_texts()] == [
        one.photo.path.name for one in verdicts
    ]
    assert page.locator(".verdict").all_inner_texts() == [one.verdict for one in verdicts]
    bad = sum(one.verdict == "NG" for one in verdicts)
    assert bad >= 6
    assert f"{bad} of 12 photographs are NG; 1 cannot be read." in page.inner_text("header")
    assert Inspector.open(run).metadata["guarantee"] in page.inner_text("header")
    # The anomaly map is drawn over every NG part and no other, of the size of the photograph, whose pixels are there.
    heats = [cards.nth(number).locator("img.heat").count() for number in range(len(verdicts))]
    assert heats == [int(one.verdict == "NG") for one in verdicts]
    first = cards.first
    shot, heat = first.locator(".shot img").first.bounding_box(), first.locator("img.heat").bounding_box()
    assert shot == pytest.approx(heat)
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    # Pointing at it hides it, and so does the keyboard.
    opacity = "e => getComputedStyle(e).opacity"
    shown = first.locator("img.heat")
    assert shown.evaluate(opacity) == "1"
    first.locator(".shot").hover()
    wait_until(lambda: shown.evaluate(opacity) == "0")
    page.mouse.move(1, 1)
    wait_until(lambda: shown.evaluate(opacity) == "1")
    first.locator(".shot").focus()
    wait_until(lambda: shown.evaluate(opacity) == "0")
    # What it is like.
    assert first.locator(".like figcaption").all_inner_texts()[0].startswith("nearest OK: ")
    assert first.locator(".like figcaption").all_inner_texts()[1].startswith("nearest NG: ")
    # The hostile name is text, and what cannot be read is named with its reason.
    assert ATTACK in [one.photo.path.name for one in verdicts]
    assert page.inner_text("section dt") == f"text {ATTACK}"
    assert "not an image" in page.inner_text("section dd")
    assert wrong == []


def test_the_red_lies_on_the_blot_in_the_browser(run, tmp_path, visit):
    save(tmp_path / "in" / "a.png", part(5600, blot=(16, 48)))
    judge_paths(run, [tmp_path / "in"], tmp_path / "page.html")
    page, wrong = visit(tmp_path / "page.html")
    row, column = page.evaluate("""() => {
        const image = document.querySelector('.heat'), canvas = document.createElement('canvas');
        canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
        const draw = canvas.getContext('2d'); draw.drawImage(image, 0, 0);
        const data = draw.getImageData(0, 0, canvas.width, canvas.height).data;
        let best = 0;
        for (let i = 0; i < data.length / 4; i++) if (data[4 * i + 3] > data[4 * best + 3]) best = i;
        return [Math.floor(best / canvas.width) / canvas.height, (best % canvas.width) / canvas.width];
    }""")
    assert row < 0.5 < column
    assert wrong == []


def test_the_page_is_one_file_without_script_that_asks_for_nothing(line):
    text = line[1].read_text(encoding="utf-8")
    assert "<script" not in text
    assert "default-src 'none'" in text
    addresses = re.findall(r'(?:src|href)="([^"]{0,11})', text)
    assert addresses
    assert all(address.startswith("data:") for address in addresses)
    assert ATTACK not in text


def test_a_lesson_that_overrules_the_score_decides_where_a_photograph_stands(line, run, tmp_path):
    folder, _ = line
    ranked = sorted(Inspector.open(run).judge_files(images(folder)[:11]), key=lambda one: -one.score)
    worst = ranked[0].photo.path
    teach(run, worst, "OK")
    judge_paths(run, [folder], tmp_path / "again.html")
    text = (tmp_path / "again.html").read_text(encoding="utf-8")
    card = next(card for card in text.split('<li class="card">') if f"</span> {worst.name}" in card)
    assert 'class="verdict ok"' in card
    assert "taught: OK (correction 1" in card
    assert 'class="heat"' not in card
    verdicts = re.findall(r'class="verdict (ok|ng)"', text)
    assert verdicts == sorted(verdicts)  # all of ng before all of ok


def test_of_very_many_photographs_the_worst_are_shown_and_that_is_said(run, tmp_path, monkeypatch, fresh, ng):
    assert MOST_CARDS >= 100
    monkeypatch.setattr("mekiki.judging.results.MOST_CARDS", 5)
    judge_paths(run, [fresh, ng], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    shown = [re.search(r"</span> ([^<]+)</p>", card)[1] for card in text.split('<li class="card">')[1:]]
    verdicts = list(Inspector.open(run).judge_files([*images(fresh), *images(ng)]))
    verdicts.sort(key=lambda one: (one.verdict != "NG", -one.score))
    assert shown == [one.photo.path.name for one in verdicts[:5]]
    assert "Shown are the 5 worst." in text


def test_a_page_of_nothing_and_numbers_that_are_none(tmp_path):
    write_gallery(tmp_path / "empty.html", Gallery("t", "Nothing.", "", []))
    assert "Red is where" not in (tmp_path / "empty.html").read_text(encoding="utf-8")
    nan = float("nan")
    card = Card("a/\udcff.png", "OK", nan, nan, "", "", None)
    write_gallery(tmp_path / "nan.html", Gallery("t", "s", "g", [card], [("b\udcff.png", "gone\udcff")]))
    text = (tmp_path / "nan.html").read_text(encoding="utf-8")
    assert "<dt>score</dt><dd>–</dd>" in text
    assert "b?.png" in text


def test_red_is_clear_at_the_median_and_deepest_at_the_largest_and_any_map_can_be_drawn():
    places = np.zeros((4, 4), np.float32)
    places[3, 0] = 7
    overlay = red_overlay(places, 64, 32)
    assert overlay.shape == (64, 32, 4)
    row, column = np.unravel_index(overlay[..., 3].argmax(), (64, 32))
    assert row > 44
    assert column < 12
    assert overlay[:16, 16:, 3].max() == 0
    for odd in (np.zeros((3, 3)), np.full((2, 5), 1e30), np.array([[1.0, -5.0]])):
        assert red_overlay(odd.astype(np.float32), 10, 10).shape == (10, 10, 4)
