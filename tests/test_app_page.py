"""The page of `mekiki serve` in a real browser: photographs dropped, points lassoed, thumbs given, words switched."""

import base64
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mekiki
from parts import QUARTERS, part, save

pytest.importorskip("fastapi")
PICTURES = Path(__file__).parents[1] / "docs" / "pictures"

FRAMES = """async () => {
  const plot = document.querySelector('canvas[tabindex]').plot;
  let frames = 0;
  const begun = performance.now();
  while (performance.now() - begun < 2000) {
    plot.move(frames % 20 < 10 ? 9 : -9, 3 * Math.sin(frames));
    await new Promise(requestAnimationFrame);
    frames++;
  }
  return frames / 2;
}"""
DROP = """([zone, name, coded]) => {
  const bytes = Uint8Array.from(atob(coded), (c) => c.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name, { type: 'image/png' }));
  for (const type of ['dragover', 'drop'])
    zone.dispatchEvent(new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: carried }));
}"""


@pytest.fixture(scope="module")
def browser():
    """Chromium, as the machine has it."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


def vectors_file(folder, count):
    """A table of `count` vectors of three groups."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    vectors = (np.eye(8)[labels] * 5 + rng.normal(size=(count, 8))).astype(np.float32)
    ids = np.array([f"p{i}" for i in range(count)])
    path = folder / f"{count}.npz"
    np.savez(path, vectors=vectors, labels=labels, ids=ids)
    return path


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    """Start `mekiki serve` on a run; its address. All are stopped at the end."""
    started = []

    def serve(run, *more):
        process = subprocess.Popen(
            [sys.executable, "-m", "mekiki", "serve", str(run), "--port", "0", *map(str, more)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        said = ""
        for line in process.stdout:
            said += line
            if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                return found[0]
        raise AssertionError(said)

    yield serve
    for process in started:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def address(serving, calibrated_once, ok, ng, tmp_path_factory):
    """A page of a calibrated run that remembers cases."""
    folder = tmp_path_factory.mktemp("page")
    run = shutil.copytree(calibrated_once, folder / "run")
    done = subprocess.run(
        # A thumb moves at most a twentieth of the cases: of few it moves none.
        [sys.executable, "-m", "mekiki", "remember", str(run), str(ng), str(ok)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return serving(run)


@pytest.fixture
def visit(browser):
    """Open a view; afterwards nothing was complained of, and nothing was asked of another machine."""
    complaints, asked, contexts = [], [], []

    def opened(address, view, *, width=1280, height=720, scheme="light", locale="en-GB"):
        context = browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": height}, locale=locale
        )
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console",
            lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{address}#/{view}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
    assert asked
    assert [url for url in asked if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))] == []


def drop(page, path):
    """Drop a photograph onto the view that is shown."""
    zone = page.locator("main .drop").element_handle()
    page.evaluate(DROP, [zone, path.name, base64.b64encode(path.read_bytes()).decode()])


def keep_picture(page, name):
    """A picture for the documentation, where it is wanted."""
    if os.environ.get("MEKIKI_SCREENSHOTS"):
        PICTURES.mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(500)
        page.screenshot(path=PICTURES / f"page-{name}.png")


def shown(page, count=1):
    """Wait until the map has at least `count` points; the page's policy forbids `wait_for_function`, which evals."""
    page.locator("main canvas[tabindex]").wait_for()
    for _ in range(200):
        if page.evaluate("document.querySelector('canvas[tabindex]').plot.x.length") >= count:
            break
        page.wait_for_timeout(50)
    else:
        raise AssertionError(f"no {count} points on the map")
    page.wait_for_timeout(200)


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
