"""The page of `mekiki serve` in a real browser: photographs dropped, points lassoed, thumbs given, words switched."""

import base64
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

import mekiki
from pages import serving
from parts import QUARTERS, ng_folder, part, save

pytest.importorskip("fastapi")
pytest.importorskip("lancedb")

VIEWS = ("map", "judge", "cases", "training", "describe")
CASES = 600
"""Bad parts that are remembered: a thumb moves at most a twentieth of the cases, and of few it moves none."""

DROP = """([zone, name, coded]) => {
  const bytes = Uint8Array.from(atob(coded), (c) => c.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name, { type: 'image/png' }));
  for (const type of ['dragover', 'drop'])
    zone.dispatchEvent(new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: carried }));
}"""


@pytest.fixture(scope="module")
def served_run(calibrated_once, ok, tmp_path_factory):
    """A calibrated run that remembers many cases."""
    from mekiki.remembering import remember

    folder = tmp_path_factory.mktemp("page")
    run = shutil.copytree(calibrated_once, folder / "run")
    remember(run, [ng_folder(folder / "cases", CASES, seed=3000), ok])
    return run


@pytest.fixture(scope="module")
def address(served_run):
    with serving(served_run) as address:
        yield address


@pytest.fixture(scope="module")
def empty_address(tmp_path_factory):
    """A page of a folder with nothing in it."""
    with serving(tmp_path_factory.mktemp("empty")) as address:
        yield address


@pytest.fixture
def visit(browser):
    """Open a view; afterwards nothing was complained of, and nothing was asked of another machine."""
    complaints, asked, contexts = [], [], []

    def opened(address, view, *, width=1280, height=720, scheme="light", locale="en-GB", **more):
        context = browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": height}, locale=locale, **more
        )
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console",
            lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{address}/#/{view}")
        page.locator("main > div").wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))] == []


def drop(page, path):
    """Drop a photograph onto the view that is shown."""
    zone = page.locator("main .drop").element_handle()
    page.evaluate(DROP, [zone, path.name, base64.b64encode(path.read_bytes()).decode()])


def plotted(page, what):
    """Something about the map's plot; the page's policy forbids `wait_for_function`, which evals."""
    return page.evaluate(f"document.querySelector('canvas[tabindex]').plot.{what}")


def hold(true, seconds=30):
    """Look again and again until it is true."""
    deadline = time.monotonic() + seconds
    while not (got := true()):
        assert time.monotonic() < deadline, got
        time.sleep(0.05)


def count_in(locator):
    """The first number that a line says."""
    return int(re.search(r"\d+", locator.inner_text().replace(",", ""))[0])


def shown(page, source=None):
    """Wait until the map is drawn, of a source if one is named; how many points it has."""
    choose = page.locator("#map-source")
    page.locator("main canvas[tabindex]").wait_for()
    if source is not None:
        page.locator(f"#map-source option[value={source}]").wait_for(state="attached")
        choose.select_option(source)
    count = count_in(page.locator("#map-source option:checked"))
    del count
    label = page.locator("#map-source option:checked").inner_text()
    wanted = int(re.search(r"\(([\d,]+)\)$", label)[1].replace(",", ""))
    hold(lambda: plotted(page, "painted") == wanted)
    return wanted


def at_point(page, row):
    """Where a point is in the window."""
    return page.evaluate(
        """row => { const canvas = document.querySelector('canvas[tabindex]'), plot = canvas.plot, box = canvas.getBoundingClientRect();
        return [box.left + (plot.view.x + plot.x[row] * plot.view.scale) / plot.ratio,
                box.top + (plot.view.y - plot.y[row] * plot.view.scale) / plot.ratio]; }""",
        row,
    )


def lasso(page, corners):
    """Draw around a place with the mouse."""
    page.get_by_role("button", name="Lasso", exact=True).click()
    page.mouse.move(*corners[-1])
    page.mouse.down()
    for corner in corners:
        page.mouse.move(*corner, steps=4)
    page.mouse.up()


def whole_of(page, inset=3):
    """The corners of the map."""
    box = page.locator("main canvas[tabindex]").bounding_box()
    left, top = box["x"] + inset, box["y"] + inset
    right, low = box["x"] + box["width"] - inset, box["y"] + box["height"] - inset
    return [(right, top), (right, low), (left, low), (left, top)]


def test_dropped_photo_is_judged_taught_and_undone(address, visit, tmp_path):
    page = visit(address, "judge")
    drop(page, save(tmp_path / "bad.png", part(5000, blot=QUARTERS[0])))
    verdict = page.locator("article .verdict")
    verdict.wait_for()
    assert verdict.inner_text() == "NG"
    assert page.locator("article svg rect.bars").count() > 3
    assert page.locator("article svg line.limit").count() + page.locator("article svg line.here").count() >= 1
    keep_picture(page, "judge")
    page.get_by_role("button", name="It is OK").click()
    page.locator("article .verdict.OK").wait_for()
    page.locator("article .undo").click()
    page.locator("article .verdict.NG").wait_for()
    assert page.locator("#problem").inner_text() == ""


def test_a_file_that_is_no_photo_is_told_as_unreadable(address, visit, tmp_path):
    page = visit(address, "judge")
    (tmp_path / "x.png").write_bytes(b"no picture")
    page.locator("main input[type=file]").first.set_input_files(tmp_path / "x.png")
    page.locator(".verdict.unreadable").wait_for()


def test_lasso_shows_a_grid_of_pictures_and_filters_hide(address, visit):
    page = visit(address, "map")
    shown(page)
    page.get_by_role("button", name="Lasso", exact=True).click()
    box = page.locator("main canvas[tabindex]").bounding_box()
    left, top, right, low = (
        box["x"] + 3,
        box["y"] + 3,
        box["x"] + box["width"] - 3,
        box["y"] + box["height"] - 3,
    )
    page.mouse.move(left, top)
    page.mouse.down()
    for place in ((right, top), (right, low), (left, low), (left, top + 2)):
        page.mouse.move(*place, steps=4)
    page.mouse.up()
    page.locator(".grid figure").first.wait_for()
    everything = int(re.search(r"\d+", page.locator("aside h2").inner_text())[0])
    assert everything == page.evaluate("document.querySelector('canvas[tabindex]').plot.x.length")
    keep_picture(page, "map")
    page.locator(".legend button[data-filter=label]").first.click()
    page.get_by_role("button", name="Select what is in view").click()
    assert int(re.search(r"\d+", page.locator("aside h2").inner_text())[0]) < everything


def test_thumb_moves_the_ranking_and_undo_restores_it(address, visit, tmp_path):
    page = visit(address, "cases")
    drop(page, save(tmp_path / "ask.png", part(6000, blot=QUARTERS[1])))
    rows = page.locator("ol.found li")
    rows.first.wait_for()

    def order():
        return rows.evaluate_all("all => all.map(each => each.dataset.id)")

    def facts():
        return rows.evaluate_all("all => all.map(each => each.querySelector('.what').textContent)")

    before, said = order(), facts()
    first = before[0]
    page.locator(f"ol.found li[data-id='{first}'] button.down").click()
    pressed = page.locator("ol.found button.down[aria-pressed=true]")
    pressed.wait_for()
    page.wait_for_timeout(500)
    assert order().index(first) > 0
    keep_picture(page, "cases")
    page.locator("ul.log .undo").first.click()
    pressed.wait_for(state="detached")
    assert order() == before
    assert facts() == said


def test_language_switch_changes_the_page_at_once_and_is_remembered(address, visit):
    page = visit(address, "judge")
    page.locator(".drop").wait_for()
    page.locator("#language").click()
    assert page.locator("#tabs a[aria-current]").inner_text() == "判定"
    assert page.evaluate("document.documentElement.lang") == "ja"
    page.reload()
    page.locator(".drop").wait_for()
    assert page.locator("#tabs a[aria-current]").inner_text() == "判定"


def test_every_word_is_in_both_languages():
    words = Path(mekiki.__file__).parent / "app" / "static"
    used = set()
    for script in words.glob("*.js"):
        used |= set(
            re.findall(r'\bt: \[?"(\w+)"|\bsay\(\w+, "(\w+)"|\bdone\("(\w+)"', script.read_text("utf-8"))
        )
    keys = {key for group in used for key in group if key}
    table = (words / "words.js").read_text("utf-8")
    assert len(keys) > 20
    for key in keys:
        assert re.search(rf'\b{key}: \["[^"]+", "[^"]+"\]', table), key


@pytest.mark.parametrize("view", ["map", "judge", "cases", "training", "describe"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_accessibility_finding(address, visit, view, scheme):
    script = os.environ.get("MEKIKI_AXE")
    if not script:
        pytest.skip("needs MEKIKI_AXE, the path of axe.min.js")
    page = visit(address, view, scheme=scheme)
    page.locator("main > div").wait_for()
    page.wait_for_timeout(600)
    page.evaluate(Path(script).read_text("utf-8"))
    found = page.evaluate("axe.run(document)")["violations"]
    serious = [
        (each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")
    ]
    assert serious == []


@pytest.mark.parametrize("width", [1280, 800])
def test_views_do_not_scroll_sideways(address, visit, width):
    for view in ("map", "judge", "cases", "training", "describe"):
        page = visit(address, view, width=width)
        page.locator("main > div").wait_for()
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view


@pytest.mark.slow
@pytest.mark.parametrize(("count", "rate"), [(20_000, 30), (100_000, 5)])
def test_many_points_can_be_panned(serving, calibrated_once, visit, tmp_path, count, rate, record_property):
    page = visit(serving(calibrated_once, "--vectors", vectors_file(tmp_path, count)), "map")
    page.locator("main select option[value=vectors]").wait_for(state="attached")
    page.locator("main select").first.select_option("vectors")
    shown(page, count)
    frames = page.evaluate(FRAMES)
    record_property("frames_per_second", frames)
    assert frames >= rate
