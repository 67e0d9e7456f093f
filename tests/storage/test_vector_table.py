import numpy as np
import pytest

from mekiki.errors import InputError
from mekiki.storage.vector_table import VectorTable, read_vectors, write_vectors


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_every_format_gives_back_what_was_written(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(7, 3)).astype(np.float32)
    vectors[0] = [np.float32(1e-38), np.float32(3.4e38), np.float32(1) / 3]
    names = ["a.png", "ネジ/001.png", 'comma, "quote"', "", "line\nbreak", "f", "g"]
    table = VectorTable(vectors, names, ["ok", "傷", "", "ok", "ok", "ok", "ok"])
    path = tmp_path / f"vectors{suffix}"
    write_vectors(path, table)
    read = read_vectors(path)
    assert read.vectors.dtype == np.float32
    assert (read.vectors == vectors).all()
    assert list(read.names) == names
    assert list(read.labels) == list(table.labels)


@pytest.mark.parametrize("name", ["vectors", "vectors.txt", "vectors.pkl"])
def test_an_unknown_ending_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"\.npz, \.parquet, \.csv"):
        write_vectors(tmp_path / name, VectorTable(np.zeros((1, 2), np.float32), ["a"], [""]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".npz", ".csv"])
def test_a_file_that_holds_no_vectors_is_named(tmp_path, suffix):
    path = tmp_path / f"vectors{suffix}"
    path.write_text("nonsense\n1,2,abc\n")
    with pytest.raises(InputError, match="vectors"):
        read_vectors(path)
    with pytest.raises(InputError, match="no such file"):
        read_vectors(tmp_path / f"missing{suffix}")
