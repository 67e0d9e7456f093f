"""What the READMEs show is run: the Python block as it stands, the commands against the program's own list."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
READMES = ["README.md", "README.ja.md"]


@pytest.mark.parametrize("name", READMES)
def test_the_python_block_runs_as_it_stands(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(block, name, "exec"), {})
    accuracy, distance = capsys.readouterr().out.splitlines()
    assert float(accuracy) > 0.9
    assert "kind" in distance
    assert (tmp_path / "embedder" / "model.safetensors").is_file()


@pytest.mark.parametrize("name", READMES)
def test_every_command_named_exists_and_every_link_leads_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    listed = subprocess.run([sys.executable, "-m", "mekiki", "--help"], capture_output=True, text=True).stdout
    named = set(re.findall(r"(?:`|bin/)mekiki (\w+)", text))
    commands = set(re.findall(r"^  (\w+) ", listed, re.MULTILINE))
    assert named <= commands
    assert named >= {"train", "compare", "evaluate", "embed", "distance", "doctor", "demo", "data"}
    assert named >= {"calibrate", "judge", "watch", "teach", "retrain"}
    assert not re.search(r"@[A-Z]+@", text), "a figure is still to be filled in"
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / link).exists(), link


def test_both_readmes_show_the_same_figures():
    tables = []
    for name in READMES:
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        rows = [line.split("|")[2:-1] for line in lines if line.startswith("| ") and line.count("|") >= 5]
        figures = [[re.findall(r"\d[\d,.]*", cell) for cell in row] for row in rows]
        tables.append([row for row in figures if row[1]])
    assert tables[0] == tables[1]
    assert len(tables[0]) >= 10
