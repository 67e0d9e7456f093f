"""Small data shared by the tests; real data where MEKIKI_DATA is set."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from parts import Said, make_backbone, ng_folder, ok_folder


@pytest.fixture(scope="session")
def digits():
    """scikit-learn's digits as images: (train pixels, train labels, test pixels, test labels), uint8."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = (found.images * 255 / 16).round().astype(np.uint8)
    return pixels[:1200], found.target[:1200], pixels[1200:], found.target[1200:]


@pytest.fixture(autouse=True, scope="session")
def split_few_parts():
    """Calibrations split the OK parts however few they are: tests of both ways choose by the number and the rate.

    Tests of the number below which all parts teach and calibrate set it back.
    """
    from mekiki.judging import calibrate

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrate, "LEAST_TO_SPLIT", 0)
        yield


@pytest.fixture
def real_data():
    """The folder of real data sets."""
    folder = os.environ.get("MEKIKI_DATA")
    if not folder:
        pytest.skip("needs MEKIKI_DATA")
    return Path(folder)


@pytest.fixture
def mekiki(monkeypatch, capsys, tmp_path):
    """Run a command in this process, in an empty folder."""
    from mekiki import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEKIKI_DATA", raising=False)
    monkeypatch.setenv("MEKIKI_CACHE", str(tmp_path / "cache"))

    def run(*arguments):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["mekiki", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return Said(stopped.value.code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def net(tmp_path_factory):
    """The name of a tiny backbone."""
    pytest.importorskip("transformers")
    return make_backbone(tmp_path_factory.mktemp("net"))


@pytest.fixture(scope="session")
def ok(tmp_path_factory):
    """A folder of 60 OK parts."""
    return ok_folder(tmp_path_factory.mktemp("parts") / "ok", 60)


@pytest.fixture(scope="session")
def ng(tmp_path_factory):
    """A folder of 16 NG parts: blots and scratches."""
    return ng_folder(tmp_path_factory.mktemp("parts") / "ng", 16, seed=2000)


@pytest.fixture(scope="session")
def fresh(tmp_path_factory):
    """A folder of 24 OK parts that no judge has seen."""
    return ok_folder(tmp_path_factory.mktemp("parts") / "fresh", 24, seed=1000)


@pytest.fixture(scope="session")
def calibrated_once(net, ok, ng, tmp_path_factory):
    """A run calibrated on these parts at 10 %: it is never changed."""
    from mekiki.judging.calibrate import CalibrationSettings, calibrate_run

    folder = tmp_path_factory.mktemp("line") / "run"
    calibrate_run(folder, [ok], [ng], encoder=net, settings=CalibrationSettings(0.1))
    return folder


@pytest.fixture
def run(calibrated_once, tmp_path):
    """A calibrated run of one's own."""
    return Path(shutil.copytree(calibrated_once, tmp_path / "run"))


@pytest.fixture(scope="session")
def browser():
    """A real browser, where there is one."""
    library = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    with library.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()
