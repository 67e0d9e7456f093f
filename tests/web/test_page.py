"""The page of `mekiki serve` in a real browser: photographs, the lasso, feedback, both languages."""

import base64
import os
import re
import shutil
import subprocess
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import mekiki
from pages import serving
from parts import QUADRANTS, ng_folder, part, save

pytest.importorskip("fastapi")
pytest.importorskip("lancedb")

AT = """row => {
  const canvas = document.querySelector('canvas[tabindex]'), { view, x, y, ratio } = canvas.plot;
  const box = canvas.getBoundingClientRect();
  return [box.left + (view.x + x[row] * view.scale) / ratio, box.top + (view.y - y[row] * view.scale) / ratio];
}"""
BESIDE = """([row, most]) => {
  const { view, x, y } = document.querySelector('canvas[tabindex]').plot;
  const apart = (one, other) => Math.abs(one - other) * view.scale < most;
  return [...x.keys()].filter(i => apart(x[i], x[row]) && apart(y[i], y[row])).length;
}"""
PIXELS = """name => {
  const canvas = document.querySelector(name);
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d');
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  let [colour, light] = [0, 0];
  for (let i = 0; i < data.length; i += 4) { colour += Math.abs(data[i] - data[i + 2]); light += data[i + 1]; }
  return { colour, light: light / (data.length / 4) };
}"""
PASTE = """content => {
  const carried = new DataTransfer(), bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0));
  carried.items.add(new File([bytes], 'pasted.png', { type: 'image/png' }));
  document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: carried, bubbles: true }));
}"""
VIEWS = ("map", "judge", "cases", "training", "describe")
CASES = 400
"""Bad parts that are remembered: a thumb moves at most a twentieth of the cases, and of few it moves none."""

DROP = """([zone, name, coded]) => {
  const bytes = Uint8Array.from(atob(coded), (c) => c.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name, { type: 'image/png' }));
  for (const type of ['dragover', 'drop'])
    zone.dispatchEvent(new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: carried }));
}"""


def vectors_file(folder, count):
    """A table of `count` vectors of three groups."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    vectors = (np.eye(8)[labels] * 5 + rng.normal(size=(count, 8))).astype(np.float32)
    path = folder / f"{count}.npz"
    np.savez(path, vectors=vectors, labels=labels)
    return path


@pytest.fixture(scope="module")
def served_run(calibrated_once, ok, tmp_path_factory):
    """A calibrated run that remembers many cases."""
    from mekiki.cases.remember import remember
    from mekiki.cases.run_memory import RunMemory

    folder = tmp_path_factory.mktemp("page")
    run = shutil.copytree(calibrated_once, folder / "run")
    remember(RunMemory(run), [ng_folder(folder / "cases", CASES, seed=3000), ok])
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
    page.locator("main canvas[tabindex]").wait_for()
    if source is not None:
        page.locator(f"#map-source option[value={source}]").wait_for(state="attached")
        page.locator("#map-source").select_option(source)
    label = page.locator("#map-source option:checked").inner_text()
    wanted = int(re.search(r"\(([\d,]+)\)$", label)[1].replace(",", ""))
    hold(lambda: plotted(page, "painted") == wanted)
    return wanted


def at_point(page, row):
    """Where a point is in the window."""
    return page.evaluate(AT, row)


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
    drop(page, save(tmp_path / "bad.png", part(5000, blot=QUADRANTS[0])))
    verdict = page.locator("article .verdict")
    verdict.wait_for()
    assert verdict.inner_text().startswith("NG")
    assert page.locator("article svg rect.bars").count() > 3
    assert (
        page.locator("article svg line.limit").count() == page.locator("article svg line.here").count() == 1
    )
    assert "1 judged: 0 OK, 1 NG" in page.locator("main").inner_text()
    assert page.locator("article .pair img").count() == 2
    page.get_by_role("button", name="Mark OK").click()
    page.locator("article .verdict.OK").wait_for()
    assert "correction 1, NG → OK" in page.locator("#message").inner_text()
    page.locator("article .undo").click()
    page.locator("article .verdict.NG").wait_for()
    assert page.locator("#problem").inner_text() == ""


def test_the_heat_map_is_laid_over_the_photograph_as_far_as_the_slider_says(address, visit, tmp_path):
    page = visit(address, "judge")
    drop(page, save(tmp_path / "bad.png", part(5001, scratch=QUADRANTS[3])))
    slider = page.locator("article input[type=range]")
    slider.wait_for()

    def coloured():
        """How far the photograph, which is grey, is from grey."""
        return page.evaluate(PIXELS, "article canvas")["colour"]

    hold(lambda: coloured() > 0)
    half = coloured()
    slider.focus()
    page.keyboard.press("End")
    assert coloured() > half
    page.keyboard.press("Home")
    assert coloured() == 0


def test_a_folder_is_judged_and_the_good_ones_are_hidden(address, visit, fresh, tmp_path):
    page = visit(address, "judge")
    folder = tmp_path / "new"
    for path in sorted(fresh.iterdir())[:11]:
        folder.mkdir(exist_ok=True)
        shutil.copy(path, folder / path.name)
    save(folder / "bad.png", part(5002, blot=QUADRANTS[1]))
    (folder / "notes.txt").write_text("not a photograph")
    page.locator("main input[webkitdirectory]").set_input_files(folder)
    page.locator("article").nth(11).wait_for()
    summary = page.locator("main .bar [role=status]").inner_text()
    total, good, bad, unreadable = map(int, re.findall(r"\d+", summary))
    assert (total, unreadable) == (12, 0)
    assert good + bad == 12
    page.get_by_role("button", name="Hide OK").click()
    assert page.locator("article:visible").count() == bad


def test_a_photograph_is_pasted(address, visit, tmp_path):
    page = visit(address, "judge")
    content = base64.b64encode(save(tmp_path / "a.png", part(7000)).read_bytes()).decode()
    page.evaluate(PASTE, content)
    page.locator("article h2").wait_for()
    assert page.locator("article h2").inner_text() == "pasted.png"


def test_a_file_that_is_no_photo_is_reported_as_unreadable(address, visit, tmp_path):
    page = visit(address, "judge")
    (tmp_path / "x.png").write_bytes(b"no picture")
    page.locator("main input[type=file]").first.set_input_files(tmp_path / "x.png")
    page.locator(".verdict.unreadable").wait_for()


def test_a_verdict_is_kept_as_a_case(address, visit, served_run, tmp_path):
    from mekiki.cases.maintenance import case_stats
    from mekiki.cases.run_memory import RunMemory

    page = visit(address, "judge")
    before = case_stats(RunMemory(served_run))["images"]["cases"]
    drop(page, save(tmp_path / "kept.png", part(5003, blot=QUADRANTS[2])))
    page.locator("article .keep").click()
    hold(lambda: "1 case saved, 1 new" in page.locator("#message").inner_text())
    assert case_stats(RunMemory(served_run))["images"]["cases"] == before + 1


def test_pointing_at_a_dot_shows_its_picture(address, visit):
    page = visit(address, "map")
    shown(page, "judge")
    page.mouse.move(*at_point(page, 70))
    tip = page.locator(".tip")
    tip.wait_for()
    assert "label: " in tip.inner_text()
    assert tip.locator("img").evaluate("img => img.decode().then(() => img.naturalWidth)") > 0
    page.mouse.move(0, 0)
    tip.wait_for(state="hidden")


def test_the_map_is_moved_and_zoomed_by_mouse_and_by_keys(address, visit):
    page = visit(address, "map")
    shown(page, "judge")
    start = plotted(page, "view")
    middle = [sum(each) / 4 for each in zip(*whole_of(page), strict=True)]
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1] + 30, steps=5)
    page.mouse.up()
    moved = plotted(page, "view")
    assert (round(moved["x"] - start["x"]), round(moved["y"] - start["y"])) == (60, 30)
    page.mouse.wheel(0, -240)
    hold(lambda: plotted(page, "view")["scale"] > start["scale"])
    page.locator("main canvas[tabindex]").focus()
    page.keyboard.press("0")
    assert plotted(page, "view") == start
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("+")
    assert plotted(page, "view")["scale"] == pytest.approx(1.2 * start["scale"])


def test_lasso_shows_a_grid_of_pictures_and_filters_hide(address, visit):
    page = visit(address, "map")
    count = shown(page, "judge")
    lasso(page, whole_of(page))
    page.locator(".grid figure").first.wait_for()
    assert count_in(page.locator("aside h2")) == count
    assert page.locator(".grid img").first.evaluate("img => img.decode().then(() => img.naturalWidth)") > 0
    for what in ("label", "verdict"):
        button = page.locator(f".legend button[data-filter={what}]").first
        gone = int(re.search(r"\((\d+)\)", button.inner_text())[1])
        button.click()
        page.get_by_role("button", name="Select all in view").click()
        assert count_in(page.locator("aside h2")) == count - gone
        button.click()
    assert page.locator(".legend button[aria-pressed=false]").count() == 0


@pytest.mark.slow
def test_a_lasso_takes_those_inside_and_no_others(address, visit):
    page = visit(address, "map")
    shown(page, "judge")
    x, y = at_point(page, 62)
    lasso(page, [(x + 8, y - 8), (x + 8, y + 8), (x - 8, y + 8), (x - 8, y - 8)])
    page.locator(".grid figure").first.wait_for()
    near = page.evaluate(BESIDE, [62, 7.5])
    assert near <= count_in(page.locator("aside h2")) <= near + 3


@pytest.mark.slow
def test_a_group_is_relabelled_and_called_back(address, visit):
    page = visit(address, "map")
    shown(page, "cases")
    lasso(page, whole_of(page))
    page.locator("aside form input").fill("odd")
    page.get_by_role("button", name="Label", exact=True).click()
    page.locator("aside .undo").wait_for()
    assert re.fullmatch(r"odd \(\d+\)", page.locator(".legend button[data-filter=label]").first.inner_text())
    assert page.locator(".legend button[data-filter=label]").count() == 1
    page.locator("aside .undo").click()
    hold(lambda: page.locator(".legend button[data-filter=label]").count() == 3)


def test_a_group_is_sent_to_the_cases(calibrated_once, visit, tmp_path):
    with serving(shutil.copytree(calibrated_once, tmp_path / "run")) as address:
        page = visit(address, "map")
        count = shown(page, "judge")
        lasso(page, whole_of(page))
        page.locator("button.send").click()
        hold(lambda: f"{count} cases saved, {count} new" in page.locator("#message").inner_text())
        assert shown(page, "cases") == count


def test_thumb_moves_the_ranking_and_undo_restores_it(address, visit, tmp_path):
    page = visit(address, "cases")
    drop(page, save(tmp_path / "ask.png", part(6000, blot=QUADRANTS[1])))
    rows = page.locator("ol.found li")
    rows.first.wait_for()

    def order():
        return rows.evaluate_all("all => all.map(each => each.dataset.id)")

    def facts():
        return rows.evaluate_all("all => all.map(each => each.querySelector('.what').textContent)")

    before, said = order(), facts()
    assert len(before) == 10
    first = before[0]
    page.locator(f"ol.found li[data-id='{first}'] button.down").click()
    hold(lambda: re.search("Saved; [1-9]", page.locator("#message").inner_text()))
    assert order()[0] != first, "it is not the nearest any more"
    page.locator("ul.log .undo").first.click()
    hold(lambda: "Undone" in page.locator("#message").inner_text())
    assert order() == before
    assert facts() == said
    page.locator("ol.found button.up").nth(1).click()
    page.locator("ol.found button.up[aria-pressed=true]").wait_for()
    page.locator("ol.found button.up[aria-pressed=true]").click()
    page.locator("ol.found button.up[aria-pressed=true]").wait_for(state="detached")
    hold(lambda: facts() == said)


def test_a_photograph_is_described_with_the_cases_cited(address, visit, tmp_path):
    page = visit(address, "describe")
    assert "template" in page.locator("main p.card").inner_text()
    drop(page, save(tmp_path / "what.png", part(6001, scratch=QUADRANTS[1])))
    page.locator("ol.found li").nth(2).wait_for()
    assert "Template answer" in page.locator(".text").inner_text()
    page.locator("#language").click()
    assert "定型文" in page.locator("main p.card").inner_text()
    drop(page, save(tmp_path / "what.png", part(6002, scratch=QUADRANTS[1])))
    hold(lambda: "定型文による回答" in page.locator(".text").inner_text())


def test_a_description_that_is_a_guess_is_marked_as_one(address, visit, monkeypatch, tmp_path):
    from mekiki.describing.describe import RunDescriber

    warned = {"en": "a guess: it does not read the vector", "ja": "推測です。"}
    monkeypatch.setattr(RunDescriber, "warning", property(lambda self: warned[self.language]))
    page = visit(address, "describe")
    drop(page, save(tmp_path / "what.png", part(6003, scratch=QUADRANTS[1])))
    hold(lambda: page.locator(".guess[role=status]").inner_text() == f"⚠ {warned['en']}")
    page.locator("#language").click()
    drop(page, save(tmp_path / "what.png", part(6004, scratch=QUADRANTS[1])))
    hold(lambda: page.locator(".guess[role=status]").inner_text() == f"⚠ {warned['ja']}")


@pytest.mark.slow
def test_a_training_is_started_watched_played_and_shown_on_the_map(empty_address, visit):
    page = visit(empty_address, "training")
    page.locator("select option[value=digits]").wait_for(state="attached")
    page.locator("main select").first.select_option("digits")
    page.get_by_label("Epochs").fill("4")
    page.get_by_text("More settings").click()
    page.get_by_label("Images per class").fill("40")
    page.get_by_role("button", name="Start").click()
    page.locator(".card .state.running").wait_for()
    page.get_by_role("button", name="Stop").wait_for()
    page.locator(".card .state.finished").wait_for(timeout=90_000)
    assert page.locator("svg polyline.val").get_attribute("points").count(",") == 4
    assert page.locator("output").inner_text() == "Epoch 4 of 4"
    scatter = page.locator(".plot.small canvas")
    last = scatter.screenshot()
    slider = page.locator("input[type=range]")
    slider.focus()
    page.keyboard.press("Home")
    assert page.locator("output").inner_text() == "Epoch 1 of 4"
    page.wait_for_timeout(100)
    assert scatter.screenshot() != last, "clusters have formed since"
    page.get_by_role("button", name="Play").click()
    hold(lambda: page.locator("output").inner_text() == "Epoch 4 of 4")
    page.get_by_role("button", name="Play").wait_for()
    page.locator("#tabs a[data-view=map]").click()
    assert shown(page) > 100


@pytest.mark.slow
def test_a_training_is_stopped_and_resumed(empty_address, visit):
    page = visit(empty_address, "training")
    page.locator("select option[value=digits]").wait_for(state="attached")
    page.locator("main select").first.select_option("digits")
    page.get_by_label("Epochs").fill("60")
    page.get_by_label("Seed").fill("7")
    page.get_by_role("button", name="Start").click()
    # Of this training, not of one that was shown before it: only then is there something to resume.
    hold(lambda: re.fullmatch(r"Epoch ([2-9]|\d\d) of 60", page.locator("output").inner_text()), 90)
    page.get_by_role("button", name="Stop").click()
    page.locator(".card .state.stopped").wait_for()
    page.get_by_role("button", name="Resume").click()
    page.locator(".card .state.finished").wait_for(timeout=180_000)
    assert page.locator("output").inner_text() == "Epoch 60 of 60"


def test_language_switch_changes_the_page_at_once_and_is_remembered(address, visit):
    page = visit(address, "judge")
    page.locator(".drop").wait_for()
    page.locator("#language").click()
    assert page.locator("#tabs a[aria-current]").inner_text() == "判定"
    assert page.evaluate("document.documentElement.lang") == "ja"
    page.reload()
    page.locator(".drop").wait_for()
    assert page.locator("#tabs a[aria-current]").inner_text() == "判定"


def test_what_is_shown_already_is_translated_too(address, visit, tmp_path):
    page = visit(address, "judge")
    drop(page, save(tmp_path / "bad.png", part(5004, blot=QUADRANTS[0])))
    page.locator("article svg text", has_text="threshold").wait_for()
    page.locator("#language").click()
    said = page.locator("main").inner_text()
    assert page.locator("article svg text", has_text="しきい値").count() == 1
    assert "今後の良品" in page.locator(".guarantee").inner_text()
    for english in ("threshold", "nearest", "judged", "Correct", "Drop", "OK parts", "deviation"):
        assert english not in said


def test_a_browser_in_japanese_is_greeted_in_japanese(address, visit):
    page = visit(address, "map", locale="ja-JP")
    assert page.locator("#tabs a[aria-current]").inner_text() == "分布図"


def test_every_word_is_in_both_languages():
    words = Path(mekiki.__file__).parent / "web" / "static"
    used = set()
    for script in words.glob("*.js"):
        found = re.findall(
            r'\b(?:t|label): \[?"(\w+)"|\bsetText\(\w+, "(\w+)"|\bshowMessage\("(\w+)"|\btext\("(\w+)"',
            script.read_text("utf-8"),
        )
        used |= {key for group in found for key in group if key}
    table = (words / "words.js").read_text("utf-8")
    assert len(used) > 60
    for key in used:
        assert re.search(rf'\b{key}: \["[^"]+", "[^"]+"\]', table), key


def test_the_page_is_worked_by_keys_alone(address, visit, tmp_path):
    page = visit(address, "judge")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    drop(page, save(tmp_path / "bad.png", part(5005, blot=QUADRANTS[0])))
    page.locator("article .verdict").wait_for()
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "teach-ok":
            break
    page.keyboard.press("Enter")
    page.locator("article .verdict.OK").wait_for()
    page.locator("article .undo").focus()
    page.keyboard.press("Space")
    page.locator("article .verdict.NG").wait_for()
    page.goto(f"{address}/#/map")
    shown(page, "judge")
    page.get_by_role("button", name="Select all in view").focus()
    page.keyboard.press("Enter")
    page.locator(".grid figure").first.wait_for()


def drawn_dark(page, dark):
    """Whether the map is drawn on a dark ground, or on a light one."""
    return (page.evaluate(PIXELS, "canvas[tabindex]")["light"] < 128) == dark


def test_dark_and_light_follow_the_system_and_the_button(address, visit):
    grounds = []
    for scheme in ("light", "dark"):
        page = visit(address, "map", scheme=scheme)
        shown(page, "judge")
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.locator("#theme").click()
        other = page.evaluate("getComputedStyle(document.body).backgroundColor")
        dark = scheme == "light"
        hold(partial(drawn_dark, page, dark))  # the canvas follows as well
        page.reload()
        page.locator("main > div").wait_for()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == other
        grounds.append((ground, other))
    assert grounds[0] == grounds[1][::-1]


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (820, 1180)])
def test_views_do_not_scroll_sideways(address, visit, width, height, tmp_path):
    photo = save(tmp_path / "bad.png", part(5006, blot=QUADRANTS[0]))
    page = visit(address, "map", width=width, height=height)
    for view in VIEWS:
        page.locator(f"#tabs a[data-view={view}]").click()
        page.locator(f"#tabs a[data-view={view}][aria-current]").wait_for()
        if view in ("judge", "cases", "describe"):
            drop(page, photo)
            page.locator("article .verdict, ol.found li").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view


def test_a_tablet_pinches_and_taps(address, visit):
    page = visit(address, "map", width=820, height=1180, has_touch=True)
    shown(page, "judge")
    page.touchscreen.tap(*at_point(page, 70))
    page.locator(".tip").wait_for()
    before = plotted(page, "view")["scale"]
    fingers = """([kind, places]) => { const canvas = document.querySelector('canvas[tabindex]');
    places.forEach(([x, y], i) => canvas.dispatchEvent(new PointerEvent(kind, { pointerId: 10 + i, pointerType: 'touch',
    clientX: x, clientY: y, bubbles: true }))); }"""
    page.evaluate("HTMLCanvasElement.prototype.setPointerCapture = () => {}")
    box = page.locator("main canvas[tabindex]").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.evaluate(fingers, ["pointerdown", [[x - 40, y], [x + 40, y]]])
    page.evaluate(fingers, ["pointermove", [[x - 80, y], [x + 80, y]]])
    page.evaluate(fingers, ["pointerup", [[x - 80, y], [x + 80, y]]])
    assert plotted(page, "view")["scale"] == pytest.approx(2 * before, rel=0.01)


def test_an_empty_run_says_what_to_do_in_every_view(empty_address, visit):
    page = visit(empty_address, "judge")
    assert "mekiki calibrate" in page.locator("main").inner_text()
    page.locator("#tabs a[data-view=cases]").click()
    page.get_by_text("add some with").wait_for()
    assert page.locator("#problem").inner_text() == ""
    page.locator("#tabs a[data-view=describe]").click()
    page.locator("main", has_text="describe-train").wait_for()


def test_ones_own_vectors_open_as_a_map(visit, tmp_path):
    (tmp_path / "run").mkdir()
    with serving(tmp_path / "run", vectors=vectors_file(tmp_path, 20_000)) as address:
        page = visit(address, "map")
        assert shown(page) == 20_000
        page.locator("#map-colour").select_option("verdict")
        assert page.locator(".legend button", has_text="right").count() == 1
        page.locator("#map-colour").select_option("distance")
        assert "class" in page.locator(".legend").inner_text()


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """The source of axe-core: MEKIKI_AXE, or what npm gives, into a folder that goes again."""
    given = os.environ.get("MEKIKI_AXE")
    if given:
        return Path(given).read_text("utf-8")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm, for axe-core")
    folder = tmp_path_factory.mktemp("axe")
    done = subprocess.run(
        [npm, "pack", "axe-core@4", "--silent"], cwd=folder, capture_output=True, timeout=120, text=True
    )
    if done.returncode:
        pytest.skip("axe-core cannot be had")
    import tarfile

    with tarfile.open(folder / done.stdout.split()[-1]) as archive:
        found = archive.extractfile("package/axe.min.js")
        return found.read().decode()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_no_serious_accessibility_finding(address, visit, axe, view, scheme, tmp_path):
    page = visit(address, view, scheme=scheme)
    if view == "map":
        shown(page, "judge")
        page.get_by_role("button", name="Select all in view").click()
    if view in ("judge", "cases", "describe"):
        drop(page, save(tmp_path / "bad.png", part(5007, blot=QUADRANTS[0])))
        page.locator("article .verdict, ol.found li").first.wait_for()
    page.wait_for_timeout(600)
    page.evaluate(axe)
    found = page.evaluate("axe.run(document)")["violations"]
    serious = [
        (each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")
    ]
    assert serious == []


@pytest.mark.slow
def test_a_hundred_thousand_points_do_not_freeze_the_page(visit, tmp_path):
    (tmp_path / "run").mkdir()
    with serving(tmp_path / "run", vectors=vectors_file(tmp_path, 100_000)) as address:
        page = visit(address, "map")
        assert shown(page) == 100_000
        page.evaluate(
            "() => { window.n = 0; const again = () => { window.n++; requestAnimationFrame(again); }; again(); }"
        )
        x, y = (sum(each) / 4 for each in zip(*whole_of(page), strict=True))
        page.mouse.move(x, y)
        page.mouse.down()
        before, begun = page.evaluate("window.n"), time.monotonic()
        for step in range(60):
            page.mouse.move(x + step % 20 * 5, y + step % 7 * 4)
        assert (page.evaluate("window.n") - before) / (time.monotonic() - begun) >= 5
        page.mouse.up()
        lasso(page, whole_of(page))
        page.locator(".grid figure").first.wait_for()
        assert count_in(page.locator("aside h2")) > 90_000
