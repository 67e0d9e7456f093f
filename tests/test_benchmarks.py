"""What the benchmarks count and how they tell it; not how fast anything is."""

import json

import pytest
import torch
from benchmarks import __main__ as bench
from benchmarks import measuring
from benchmarks.measuring import copy_limit, matrix_flops, matrix_limit, measured, median


def test_operations_of_the_post_counted_by_hand():
    forward = 2 * 256 * (784 * 256 + 256 * 256 + 256 * 2)
    # Backward: as much for the weights, and for the inputs of all layers but the first.
    backward = forward + 2 * 256 * (256 * 256 + 256 * 2)
    assert matrix_flops(measuring.PERCEPTRON, 256, backward=False) == forward
    assert matrix_flops(measuring.PERCEPTRON, 256, backward=True) == forward + backward


def test_limits_are_positive_and_grow_with_the_work():
    small = matrix_limit([(8, 8)], 4, backward=True, steps=20)
    large = matrix_limit([(512, 512), (512, 512)], 256, backward=True, steps=3)
    assert 0 < small < large
    assert copy_limit(2**16, seconds=0.01) > 0
    assert median([3, 1, 2]) == 2


def test_a_measured_program_gives_its_last_object_or_its_last_words():
    assert measured("import json, sys; print('noise'); print(json.dumps({'n': int(sys.argv[1])}))", 7) == {
        "n": 7
    }
    with pytest.raises(SystemExit, match="went wrong"):
        measured("raise SystemExit('it went wrong')")


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "RESULTS", tmp_path)
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    return tmp_path


def test_the_table_says_what_was_not_measured(results):
    lines = bench.table().splitlines()
    assert len(lines) == 2 + len(bench.ROWS)
    assert all("not measured" in line for line in lines[2:])
    assert {row.source for row in bench.ROWS} <= set(bench.BENCHMARKS)


def test_a_target_that_is_missed_is_said_to_be(results):
    def told(knn, error, seeds=5):
        nets = {"mlp, 2-D": {"knn": 0.986, "eer": 0.01}, "vgg, 2-D": {"knn": knn, "eer": error},
                "vgg, 32-D": {"knn": 0.9975, "eer": 0.002}}  # fmt: skip
        measuring.write_result("quality", {"seeds": seeds, "nets": nets})
        (row,) = [line for line in bench.table().splitlines() if line.startswith("| 5 ")]
        return row.rstrip("| ").split("|")[-1].strip()

    assert told(0.9951, 0.004) == "yes"
    assert told(0.9949, 0.004) == "no"
    assert told(0.9951, 0.006) == "no"
    assert told(0.9951, 0.004, seeds=3) == "no"
    kept = json.loads((results / "quality.json").read_text())
    assert torch.__version__.startswith(kept["torch"].split("+")[0])
