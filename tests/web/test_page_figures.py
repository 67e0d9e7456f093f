"""Every view of the page on a real run, photographed for the documentation: tiles, a judge, cases, a describer.

Slow, and only where the data are. With MEKIKI_SCREENSHOTS=docs/pictures those of the documentation are made anew.
"""

import csv
import os
import re
import shutil
from pathlib import Path

import pytest

from pages import serving

pytest.importorskip("fastapi")
pytest.importorskip("lancedb")

OPENED = {"width": 1280, "height": 720}


def dealt(tiles, folder):
    """Tiles in three folders: those to learn from, OK and NG, and new ones; every twentieth is new."""
    found = {}
    for place, path in enumerate(sorted(tiles.glob("*/*"))):
        kind = path.parent.name
        to = "new" if place % 20 == 7 else "ok" if kind == "free" else f"ng/{kind}"
        copy = folder / to / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
        found.setdefault((to.partition("/")[0], kind), []).append(copy)
    return found


def a_run(real_data, folder):
    """A run that judges, remembers and describes tiles; the new ones by kind."""
    from benchmarks.describing import tile_reports

    from mekiki.cases.remember import remember
    from mekiki.cases.run_memory import RunMemory
    from mekiki.describing.part_training import TrainConfig
    from mekiki.describing.train_describer import train_describer
    from mekiki.judging.calibrate import calibrate_run

    found = dealt(real_data / "magnetic_tile", folder)
    run = folder / "tiles"
    backbone = f"hf:{real_data / 'weights' / 'mobilenet_v1_0.75_224'}"
    calibrate_run(run, [folder / "ok"], [folder / "ng"], encoder=backbone)
    texts = tile_reports(folder, apart=True)
    notes = folder / "notes.csv"
    here = {path.name: path for (side, _), paths in found.items() if side == "ng" for path in paths}
    with (
        texts.open(encoding="utf-8", newline="") as rows,
        notes.open("w", encoding="utf-8", newline="") as out,
    ):
        writer = csv.writer(out)
        writer.writerow(["file", "label", "note"])
        for row in csv.DictReader(rows):
            path = here.get(Path(row["file"]).name)
            if row["language"] == "en" and path is not None:
                writer.writerow([path, path.parent.name, row["text"]])
    remember(RunMemory(run), [folder / "ng"], notes=notes)
    remember(RunMemory(run), [folder / "ok"])
    train_describer(run, texts, config=TrainConfig(epochs=12))
    return run, {kind: paths for (side, kind), paths in found.items() if side == "new"}


def iter_photos(browser, address, new, keep, data="digits"):
    """Go through the views as an engineer would; `keep` is called for each view that is worth a picture."""
    context = browser.new_context(viewport=OPENED, locale="en-GB")
    page = context.new_page()
    page.goto(f"{address}/#/judge")
    give = page.locator("main input[type=file]").first
    give.wait_for(state="attached")
    give.set_input_files([new["fray"][0], new["free"][0], new["crack"][-1]])
    page.locator("article .verdict").nth(2).wait_for(timeout=60_000)
    page.wait_for_timeout(800)
    keep(page, "judge")

    page.goto(f"{address}/#/describe")
    page.locator("main input[type=file]").first.set_input_files(new["blowhole"][0])
    page.locator(".text:not([aria-busy])").wait_for()
    page.locator("ol.found li, p.faint:visible").first.wait_for(timeout=60_000)
    page.wait_for_timeout(1500)
    assert len(page.locator(".text").inner_text()) > 20
    keep(page, "describe")

    page.goto(f"{address}/#/cases")
    page.locator("main input[type=file]").first.set_input_files(new["blowhole"][0])
    page.locator("ol.found li").nth(9).wait_for(timeout=60_000)
    page.locator("ol.found li", has_text="OK").first.locator("button.down").click()
    page.locator("ul.log .undo").wait_for()
    page.locator("ol.found li button.up").nth(1).click()
    page.locator("ul.log .undo").nth(1).wait_for()
    page.wait_for_timeout(900)
    page.mouse.move(0, 0)
    keep(page, "cases")

    page.goto(f"{address}/#/map")
    page.locator("#map-source option[value=cases]").wait_for(state="attached")
    page.locator("#map-source").select_option("cases")
    page.wait_for_timeout(1200)
    canvas = page.locator("main canvas[tabindex]")
    box = canvas.bounding_box()
    for _ in range(3):
        page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.4 * box["height"])
        page.mouse.wheel(0, -240)
    page.get_by_role("button", name="Lasso", exact=True).click()
    left, top = box["x"] + 0.42 * box["width"], box["y"] + 0.45 * box["height"]
    corners = [(0, 0.1), (0.1, 0), (0.25, 0.02), (0.3, 0.2), (0.2, 0.42), (0.05, 0.4), (0, 0.1)]
    page.mouse.move(left, top + 0.1 * box["height"])
    page.mouse.down()
    for across, down in corners:
        page.mouse.move(left + across * box["width"], top + down * box["height"], steps=5)
    page.mouse.up()
    page.wait_for_timeout(1500)
    keep(page, "map")

    page.goto(f"{address}/#/training")
    page.locator(f"select option[value={data}]").wait_for(state="attached")
    page.locator("main select").first.select_option(data)
    page.get_by_label("Epochs").fill("20")
    page.get_by_role("button", name="Start").click()
    page.locator(".card .state.finished").wait_for(timeout=300_000)
    page.wait_for_timeout(500)
    keep(page, "training")

    context.close()
    context = browser.new_context(viewport=OPENED, locale="ja-JP", color_scheme="dark")
    page = context.new_page()
    page.goto(f"{address}/#/judge")
    page.locator("main input[type=file]").first.set_input_files(new["fray"][:1])
    page.locator("article .verdict").wait_for(timeout=60_000)
    page.wait_for_timeout(800)
    assert re.search("[ぁ-ん]", page.locator("main").inner_text())
    keep(page, "judge-ja")
    context.close()


@pytest.mark.slow
def test_every_view_shows_a_real_run(browser, real_data, tmp_path):
    run, new = a_run(real_data, tmp_path)
    folder = os.environ.get("MEKIKI_SCREENSHOTS")
    seen = []

    def keep(page, name):
        seen.append(name)
        if folder:
            page.screenshot(path=Path(folder) / f"page-{name}.png")
        assert page.locator("#problem").inner_text() == ""

    with serving(run) as address:
        iter_photos(browser, address, new, keep)
    assert len(seen) == 6
