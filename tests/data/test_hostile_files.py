"""Damaged and hostile files: each reader reads them, or refuses them in one line; never anything else."""

import json
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from benchmarks.fuzzing import KINDS, mutated, refused_or_read
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mekiki.data.arrays import load_npz
from mekiki.data.decoding import decode
from mekiki.data.idx import read_idx
from mekiki.errors import InputError

CORPUS = Path(__file__).parent.parent / "corpus"
SLOW = ("config", "weights", "history", "judge_json")
KIND = {}


def kind(name):
    """The seeds and the reader of a kind of file, made once."""
    if name in ("parquet", "vectors_npz", "feedback"):
        pytest.importorskip("pyarrow")
    if name not in KIND:
        KIND[name] = KINDS[name]()
    return KIND[name]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
def test_whole_files_are_read(name):
    for content in kind(name).seeds:
        kind(name).read(content)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_is_read_or_refused_in_one_line(name):
    made = kind(name)

    @settings(
        max_examples=15 if name in SLOW else 60,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(made.seeds), st.sampled_from(made.seeds), st.randoms(use_true_random=False))
    def damage(content, other, rng):
        refused_or_read(made, mutated(content, other, rng))

    damage()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_what_once_crashed_a_reader_is_refused_or_read(path):
    refused_or_read(kind(path.name.rpartition("-")[0]), path.read_bytes())


def most_memory(read):
    tracemalloc.start()
    try:
        with pytest.raises(InputError):
            read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def lying_npz(path, shape, claimed=None):
    """A .npz file of 8 bytes that says it holds `shape`; and, if asked, that so much comes out of it."""
    header = str({"descr": "<f8", "fortran_order": False, "shape": shape}).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(8)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("images", "labels"):
            archive.writestr(f"{name}.npy", content)
    if claimed is not None:
        data = path.read_bytes()
        path.write_bytes(data.replace(struct.pack("<I", len(content)), struct.pack("<I", claimed)))
    return path


@pytest.mark.parametrize("claimed", [None, 2**31])
def test_an_npz_header_that_lies_costs_no_memory(tmp_path, claimed):
    path = lying_npz(tmp_path / "lie.npz", (1 << 27, 8), claimed)
    assert most_memory(lambda: load_npz(path)) < 10_000_000


@pytest.mark.parametrize("packed", [False, True])
def test_an_idx_header_that_lies_costs_no_memory(tmp_path, packed):
    import gzip

    content = bytes([0, 0, 8, 3]) + struct.pack(">3I", 60000, 10000, 10000) + bytes(2000)
    (tmp_path / "lie").write_bytes(gzip.compress(content) if packed else content)
    assert most_memory(lambda: read_idx(tmp_path / "lie")) < 10_000_000


def test_a_small_packed_file_that_unpacks_to_much_is_not_unpacked(tmp_path):
    import gzip

    content = bytes([0, 0, 8, 1]) + struct.pack(">I", 3) + bytes(200_000_000)
    (tmp_path / "bomb").write_bytes(gzip.compress(content))
    assert most_memory(lambda: read_idx(tmp_path / "bomb")) < 10_000_000


def test_settings_that_lie_about_the_network_cost_no_memory(tmp_path, digits):
    from mekiki.embedder import Embedder

    Embedder(epochs=1, dim=2).fit(digits[0][:100], digits[1][:100]).save(tmp_path / "eye")
    (tmp_path / "eye" / "manifest.json").unlink()
    path = tmp_path / "eye" / "config.json"
    facts = json.loads(path.read_text())
    facts["input"]["shape"] = [1, 1 << 20, 1 << 20]  # the first layer alone would take a petabyte
    path.write_text(json.dumps(facts))
    with pytest.raises(InputError, match="the weights are not those of the settings"):
        Embedder.load(tmp_path / "eye")


def test_a_file_of_another_format_never_starts_another_program(tmp_path):
    """Pillow gives PostScript to Ghostscript, whatever the file is called."""
    path = tmp_path / "photo.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(InputError, match="not an image"):
        decode(path, None, 1)


def test_python_objects_in_arrays_are_refused(tmp_path):
    class Boom:
        def __reduce__(self):
            return (pytest.fail, ("it was unpickled",))

    np.savez(tmp_path / "evil.npz", images=np.array([Boom()] * 2, dtype=object), labels=[0, 1])
    with pytest.raises(InputError, match="holds Python objects"):
        load_npz(tmp_path / "evil.npz")


def test_an_error_that_quotes_a_hostile_file_is_one_line_without_controls():
    said = str(InputError("a.csv: has no column note, but \x1b[2Jnote\r\nmore\u2028still"))
    assert said == "a.csv: has no column note, but \\x1b[2Jnote more still"
