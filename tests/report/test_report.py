"""The HTML report: what it holds, that nothing in it can run or leave, and how it behaves in a real browser."""

import base64
import io
import json
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mekiki.errors import InputError
from mekiki.report.comparison_page import write_comparison
from mekiki.report.content import (
    Column,
    ComparisonContent,
    ComparisonEntry,
    ConfusedPairs,
    Headline,
    PairDistances,
    ReportContent,
    ScatterContent,
)
from mekiki.report.figures.palette import class_style
from mekiki.report.formatting import script_json
from mekiki.report.plot_data import MOST_POINTS
from mekiki.report.run_page import write_report
from mekiki.report.thumbnails import thumbnail_sheet

ATTACK = "</script><script>alert(1)</script>"
NAMES = ["良品", "dent", ATTACK]


def scatter_content(count=60, height=12, width=12, colour=False, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    shape = (count, height, width, 3) if colour else (count, height, width)
    pixels = np.empty(shape, np.uint8)
    pixels[:] = (20 + 4 * np.arange(count) % 230).reshape(-1, *[1] * (len(shape) - 1))
    points = np.array([[0, 0], [6, 0], [0, 6]])[labels] + rng.normal(size=(count, 2))
    names = [f"parts/{i}.png" for i in range(count - 1)] + [f"{ATTACK}.png"]
    return ScatterContent(
        points, labels, names, pixels, ("PCA 1 (53 % of variance)", "PCA 2"), "PCA of 64 dimensions"
    )


def report_content(**changes):
    grey = np.zeros((2, 12, 12), np.uint8)
    parts = {
        "title": f"Run {ATTACK}",
        "class_names": NAMES,
        "subtitle": "3 epochs",
        "facts": {"command": "mekiki train --data 'a & b'", "seed": "0"},
        "headline": [
            Headline("5-NN accuracy", 0.96671, "Of 100 images 97 are right."),
            ("EER", float("nan"), "-"),
        ],
        "findings": [
            ("ok", "All is well.", ""),
            ("problem", "The loss sits at the margin.", "Lower the rate."),
        ],
        "notes": ["2 images were skipped."],
        "history": {
            "epoch": [1, 2, 3],
            "train_loss": [0.3, 0.2, 0.1],
            "val_loss": [0.3, float("nan"), None],
            "lr": [0.1, 0.1, 0.01],
            "seconds": [1.0, 1.0, 1.1],
            "accuracy": [0.5, 0.6, 0.7],
        },
        "test": scatter_content(),
        "train": scatter_content(90, seed=1),
        "distances": PairDistances(np.arange(4.0), np.array([5, 3, 1]), np.array([1, 3, 5]), 1.5, 0.2),
        "overlap": np.array([[np.nan, 0.031, 0.0], [0.2, np.nan, 0.1], [0.0, 0.1, np.nan]]),
        "confused": [
            ConfusedPairs("Different classes, but close", grey, grey + 200, ["a and b", f"c and {ATTACK}"]),
            ConfusedPairs("One class, but far apart", grey[:0], grey[:0], []),
        ],
        "metrics": {"test": {"knn": 0.9667, "auc": float("nan")}, "per_class": [1, 2]},
        "files": [("model.safetensors", "weights"), ("javascript:alert(1)", ATTACK)],
    }
    return ReportContent(**(parts | changes))


def comparison_content(**changes):
    metrics = {"knn": (0.967, 0.001), "eer": (0.03, 0.002), "seconds": (92.0, 1.5)}
    better = {
        "knn": (0.971, 0.002),
        "eer": (0.02, 0.001),
        "seconds": (102.0, 0.4),
        "auc": (float("nan"), None),
    }
    history = {"epoch": [1, 2], "train_loss": [0.2, 0.1]}
    overlap = np.full((3, 3), 0.04)
    entries = [
        ComparisonEntry("siamese", metrics, history, scatter_content(), overlap, "margin 1"),
        ComparisonEntry(ATTACK, better, history, scatter_content(), overlap),
    ]
    return ComparisonContent(
        **(
            {"title": "Side by side", "class_names": NAMES, "entries": entries, "claim": ["Both work."]}
            | changes
        )
    )


class Page(HTMLParser):
    """The elements of a page: tags with their attributes, text by tag, and what stands in each script."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.scripts, self.text, self._open = [], [], [], None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open = tag
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self._open == "script":
            self.scripts[-1] += data
        elif data.strip():
            self.text.append(data.strip())

    def handle_endtag(self, tag):
        self._open = None

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def data(self):
        return json.loads(self.scripts[0])


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, report_content())
    return SimpleNamespace(path=path, page=Page(path))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    path = tmp_path_factory.mktemp("comparison") / "comparison.html"
    write_comparison(path, comparison_content())
    return SimpleNamespace(path=path, page=Page(path))


# ---- the file ----


def test_page_has_language_headings_and_all_sections(report):
    page = report.page
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1
    headings = [a["id"] for a in page.all("section")]
    assert headings == [
        "headline", "doctor", "notes", "scatter-test", "scatter-training",
        "loss", "distances", "overlap", "confused", "numbers", "origin",
    ]  # fmt: skip
    anchors = [a["href"][1:] for a in page.all("a") if a["href"].startswith("#")]
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert set(anchors) <= set(ids)
    assert len(ids) == len(set(ids))
    assert all(image.get("alt") for image in page.all("img"))
    assert all(head.get("scope") for head in page.all("th"))


def test_numbers_have_sensible_digits_and_missing_ones_are_a_dash(report):
    text = report.page.text
    assert "0.9667" in text
    assert "–" in text
    assert not any("nan" in word.lower().split() for word in text)
    assert "test.knn" in text
    assert "1, 2" in text


def test_nothing_points_outside_the_file(report, comparison):
    for page in (report.page, comparison.page):
        assert not page.all("link")[0]["href"].startswith("http")
        for tag, attributes in page.elements:
            for key in ("src", "href", "srcset", "data", "action"):
                value = attributes.get(key) or ""
                assert value[:5] in ("", "data:") or value[0] == "#" or value[:2] == "./", (tag, value[:60])
        assert "@import" not in report.path.read_text(encoding="utf-8").split("</style>")[0]


def test_names_cannot_open_a_script_or_a_link(report):
    page = report.page
    assert len(page.scripts) == 3, "data, plotly, ours"
    assert page.data["classes"][2]["name"] == ATTACK
    assert page.data["plots"][0]["name"][-1] == f"{ATTACK}.png"
    assert {"./model.safetensors", "./javascript%3Aalert%281%29"} <= {a["href"] for a in page.all("a")}


def test_data_has_null_for_nan_and_the_pictures_colours(report):
    page = report.page
    assert page.data["classes"][1]["colour"] == class_style(1).colour
    plots = {plot["target"]: plot for plot in page.data["plots"]}
    assert plots["plot-loss"]["panels"][0]["curves"][1]["values"] == [0.3, None, None]
    assert plots["plot-overlap"]["matrix"][0] == [None, 0.031, 0]
    assert len(plots["plot-test"]["x"]) == 60
    assert plots["plot-loss"]["rates"] == [[3, "rate 0.01"]]


def test_empty_parts_are_left_out(tmp_path):
    path = tmp_path / "report.html"
    write_report(path, ReportContent("Bare", ["a"]))
    page = Page(path)
    assert page.all("section") == []
    assert page.data["plots"] == []


def test_more_points_than_can_be_drawn_are_thinned_and_said(tmp_path):
    count = MOST_POINTS + 500
    content = ScatterContent(
        np.random.default_rng(0).normal(size=(count, 2)), np.zeros(count, int), [str(i) for i in range(count)],
        np.zeros((count, 4, 4), np.uint8), indices=np.arange(count) + 70_000,
    )  # fmt: skip
    path = tmp_path / "report.html"
    write_report(path, ReportContent("Many", ["a"], test=content))
    page = Page(path)
    plot = page.data["plots"][0]
    assert len(plot["x"]) == MOST_POINTS
    assert [int(name) + 70_000 for name in plot["name"]] == plot["index"]
    assert any("4,000 of 4,500 images are drawn" in text for text in page.text)


@pytest.mark.parametrize("colour", [False, True])
def test_sheet_holds_every_thumbnail_in_its_place(colour):
    pixels = scatter_content(11, 64, 48, colour).thumbnails
    rows = np.array([3, 0, 10, 7])
    sheet = thumbnail_sheet(pixels, rows)
    assert (sheet.width, sheet.height, sheet.columns, sheet.reduced) == (24, 32, 2, True)
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet.address.partition(",")[2]))))
    for place, row in enumerate(rows):
        tile = image[place // 2 * 32 :, place % 2 * 24 :][:32, :24]
        assert (tile == pixels[row].flat[0]).all()


def test_equal_thumbnails_are_stored_once(comparison):
    data = comparison.page.data
    assert len(data["sheets"]) == 1
    assert {plot["sheet"] for plot in data["plots"] if plot["kind"] == "scatter"} == {0}


def test_comparison_marks_the_best_by_a_star_and_in_words(comparison):
    text = " ".join(comparison.page.text)
    assert "96.70 ± 0.10" in text
    assert "best: 97.10 ± 0.20" in text
    assert "best: 2.00 ± 0.10" in text
    assert "best: 92.0 ± 1.5" in text
    assert "AUC (%)" not in text, "a column without a number is left out"
    assert "Both work." in text


def test_a_tie_of_all_is_nobodys_best(tmp_path):
    entries = [ComparisonEntry(name, {"knn": (0.9, 0.1)}) for name in "ab"]
    columns = [Column("knn", "kNN", "high"), Column("n", "n", "")]
    path = tmp_path / "c.html"
    write_comparison(path, comparison_content(entries=entries, columns=columns))
    assert "best: " not in Page(path).text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overlap": np.zeros((2, 2))}, "3 classes"),
        (
            {
                "test": ScatterContent(
                    np.zeros((2, 2)), np.zeros(2, int), ["a"], np.zeros((2, 4, 4), np.uint8)
                )
            },
            "1 names",
        ),
        ({"class_names": ["one"], "overlap": None}, "class names"),
        ({"history": {"epoch": [1], "train_loss": [1, 2]}}, "differ in length"),
    ],
)
def test_content_that_does_not_fit_is_refused_and_nothing_is_written(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        write_report(tmp_path / "report.html", report_content(**changes))
    assert list(tmp_path.iterdir()) == []


def test_broken_file_names_do_not_break_the_page(tmp_path):
    path = tmp_path / "report.html"
    write_report(path, ReportContent("t", ["a"], files=[("bad\udcff.png", "x")], metrics={"\udcff": 1}))
    assert "bad?.png" in Page(path).text
    assert json.loads(script_json({"\udcff": "a\udcff\u2028<!--"})) == {"?": "a?\u2028<!--"}


# ---- in a browser ----


@pytest.fixture
def visit(browser):
    """Open a file with every other address refused; gives the page and the list of what went wrong.

    WebGL without a graphics card takes seconds, so only the test that looks closely has it.
    """
    contexts = []

    def open_page(path, scheme="light", width=1200, height=900, webgl=False):
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})
        contexts.append(context)
        page = context.new_page()
        if not webgl:
            page.add_init_script(NO_WEBGL)
        wrong = []
        local = ("file:", "data:", "blob:")
        page.route(
            "**/*", lambda route: route.continue_() if route.request.url.startswith(local) else route.abort()
        )
        page.on("request", lambda request: request.url.startswith(local) or wrong.append(request.url))
        page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.goto(path.as_uri())
        page.wait_for_function("document.documentElement.dataset.ready === 'yes'", timeout=30_000)
        return page, wrong

    yield open_page
    for context in contexts:
        context.close()


NO_WEBGL = """
const get = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
    return String(kind).includes("webgl") ? null : get.call(this, kind, ...rest);
};"""
POINT = """([id, i]) => {
    const plot = document.getElementById(id);
    plot.scrollIntoView({ block: "center", behavior: "instant" });
    const at = plot.data[0].customdata.indexOf(i), full = plot._fullLayout, box = plot.getBoundingClientRect();
    return { x: box.left + full.xaxis._offset + full.xaxis.l2p(plot.data[0].x[at]),
             y: box.top + full.yaxis._offset + full.yaxis.l2p(plot.data[0].y[at]) };
}"""
TIP = """() => {
    const tip = document.getElementById("tip"), canvas = tip.querySelector("canvas");
    return { hidden: tip.hidden, text: tip.textContent, width: canvas.getBoundingClientRect().width,
             rendering: getComputedStyle(canvas).imageRendering,
             grey: canvas.width ? [...canvas.getContext("2d").getImageData(5, 5, 1, 1).data] : null };
}"""


def test_report_in_a_browser(report, visit):
    page, wrong = visit(report.path, webgl=True)
    assert page.title() == f"Run {ATTACK}"
    assert page.evaluate("document.getElementById('plot-test').data[0].x.length") == 60
    assert page.evaluate("document.getElementById('plot-train') === null")
    assert page.evaluate("document.getElementById('plot-training').data[0].x.length") == 90
    drawn = page.evaluate("document.querySelectorAll('.js-plotly-plot').length")
    assert drawn == len(report.page.data["plots"])
    full = page.evaluate(
        "(() => { const f = document.getElementById('plot-test')._fullLayout;"
        "const s = (a) => Math.abs(a._length / (a.range[1] - a.range[0])); return [s(f.xaxis), s(f.yaxis)] })()"
    )
    assert full[0] == pytest.approx(full[1], rel=0.01), "one scale on both axes"
    labels = page.locator("#plot-test .annotation-text").all_text_contents()
    assert [label[:6] for label in labels] == ["良品", "dent", ATTACK[:6]]

    # Point at a dot: its own image appears, magnified pixel by pixel.
    index = 41
    spot = page.evaluate(POINT, ["plot-test", index])
    page.mouse.move(spot["x"] - 40, spot["y"] - 40)
    page.mouse.move(spot["x"], spot["y"])
    page.wait_for_function("!document.getElementById('tip').hidden", timeout=5_000)
    tip = page.evaluate(TIP)
    shown = int(tip["text"].rsplit("number ", 1)[1])
    grey = int(report_content().test.thumbnails[shown, 0, 0])
    assert tip["grey"] == [grey, grey, grey, 255]
    assert f"parts/{shown}.png" in tip["text"]
    assert tip["width"] >= 96
    assert tip["rendering"] == "pixelated"

    # The same from the keyboard, and Escape puts it away.
    page.focus("#plot-test")
    page.keyboard.press("ArrowLeft")
    tip = page.evaluate(TIP)
    assert "number 59" in tip["text"]
    assert f"{ATTACK}.png" in tip["text"]
    page.keyboard.press("Escape")
    assert page.evaluate("document.getElementById('tip').hidden")

    # The legend hides a class with its points and its name.
    button = page.locator("#scatter-test .legend button").nth(1)
    button.click()
    page.wait_for_function("document.getElementById('plot-test').data[0].x.length === 40")
    assert button.get_attribute("aria-pressed") == "false"
    assert page.locator("#plot-test .annotation-text").count() == 2
    page.locator("#scatter-test .legend button").last.click()
    page.wait_for_function("document.getElementById('plot-test').data[0].x.length === 60")

    message = page.evaluate("document.getElementById('plot-overlap').data[0].hovertext[0][1]")
    assert message.replace("<br>", " ") == (
        "Two of class 良品 lie farther apart than one of class 良品 and one of class dent with probability 3.1 %"
    )
    assert page.evaluate("document.getElementById('plot-distances').layout.annotations[0].text").startswith(
        "threshold"
    )

    # The button turns it dark, and so do the plots.
    paper = "document.getElementById('plot-test')._fullLayout.paper_bgcolor"
    assert page.evaluate(paper) == "#ffffff"
    page.locator("#theme").click()
    page.wait_for_function(f"{paper} === '#191d21'")
    assert page.locator("#theme").get_attribute("aria-label") == "Switch to the light theme"
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert wrong == []


def test_narrow_screen_dark_mode_and_no_webgl(report, visit):
    page, wrong = visit(report.path, scheme="dark", width=380, height=800)
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    assert page.locator("#plot-test .point").count() == 60
    paper = "document.getElementById('plot-loss')._fullLayout.paper_bgcolor"
    assert page.evaluate(paper) == "#191d21"
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"{paper} === '#ffffff'")
    assert wrong == []


@pytest.mark.slow
def test_comparison_in_a_browser_wide_and_narrow(comparison, visit):
    page, wrong = visit(comparison.path)
    assert page.locator(".plot.scatter").count() == 2
    assert page.evaluate("document.querySelectorAll('.js-plotly-plot').length") == len(
        comparison.page.data["plots"]
    )
    tops = "[...document.querySelectorAll('.losses > section')].map((s) => s.getBoundingClientRect().top)"
    assert len(set(page.evaluate(tops))) == 1, "side by side"
    page.set_viewport_size({"width": 380, "height": 800})
    page.wait_for_function("document.getElementById('plot-loss-0')._fullLayout.width < 380")
    page.wait_for_function("document.documentElement.scrollWidth <= 380", timeout=5_000)
    assert len(set(page.evaluate(tops))) == 2, "one below the other"
    assert wrong == []
