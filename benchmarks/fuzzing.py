"""Every reader of files against damaged and hostile ones: it reads them, or refuses them in one line, and nothing else.

python -m benchmarks.fuzzing                          every reader in turn, 10,000 files each
python -m benchmarks.fuzzing idx npz --runs 200000    some of them, longer
python -m benchmarks.fuzzing --seconds 60             each for a minute
python -m benchmarks.fuzzing --corpus DIR             keep what crashed there

Files are valid ones of each kind with bytes flipped, cut off, put in or repeated, numbers replaced by extreme ones, and
pieces of two joined. With atheris installed its coverage leads the way (one process a reader); without it, or with
`--blind`, chance alone does. More memory than `MEMORY`, or more than 10 s for a file, is a failure.
"""

from __future__ import annotations

import argparse
import atexit
import functools
import io
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

SCRATCH = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
MEMORY = {"parquet": 4096, "images": 3072}
"""Megabytes that a process may take, 2048 where nothing is said: Arrow believes the header of a page, up to 2 GB, and a
TIFF or WebP may have as many pixels as it says, up to the 100 megapixels that are read."""
PATIENCE = 10
SAMPLE = Path(__file__).parent.parent / "tests" / "samples" / "version-1.zip"
EXTREME = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0xFFFFFFFF,
    0x7FFFFFFFFFFFFFFF,
    0xFFFFFFFFFFFFFFFF,
)

Reader = Callable[[bytes], object]


class Kind:
    """One kind of file.

    Args:
        seeds: valid ones.
        read: reads the content of one; what it raises beside `InputError` is a failure.
    """

    def __init__(self, seeds: list[bytes], read: Reader) -> None:
        self.seeds, self.read = seeds, read


def folder() -> Path:
    """A folder of this process's own, in memory, which goes with it."""
    place = SCRATCH / f"mekiki-fuzzing-{os.getpid()}"
    if not place.is_dir():
        place.mkdir()
        atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


def of_file(name: str, read: Callable[[Path], object]) -> Reader:
    """A reader of content from a reader of files."""

    def reading(content: bytes) -> object:
        path = folder() / name
        path.write_bytes(content)
        return read(path)

    return reading


@functools.cache
def sample(*, sealed: bool = True) -> Path:
    """The stored run of the tests, unpacked; with its checksums, or without."""
    place = folder() / f"sample-{sealed}"
    shutil.unpack_archive(SAMPLE, place)
    if not sealed:
        for manifest in place.rglob("manifest.json"):
            manifest.unlink()
    return place / "run"


def of_run(name: str, read: Callable[[Path], object], *, sealed: bool = True) -> Reader:
    """A reader of one file of a run; not sealed, the checksums are gone, and what they guard is read as it is."""

    def reading(content: bytes) -> object:
        run = sample(sealed=sealed)
        path = run / name
        path.parent.mkdir(exist_ok=True)
        before = path.read_bytes() if path.exists() else None
        path.write_bytes(content)
        try:
            return read(run)
        finally:
            if before is None:
                path.unlink()
            else:
                path.write_bytes(before)

    return reading


def _saved(save: Callable[[io.BytesIO], object]) -> bytes:
    stream = io.BytesIO()
    save(stream)
    return stream.getvalue()


def idx() -> Kind:
    """MNIST's files, packed and not."""
    import gzip

    from mekiki.data.idx import read_idx

    plain = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2, 3, 4) + bytes(range(24))
    labels = bytes([0, 0, 8, 1]) + struct.pack(">I", 3) + bytes(3)
    return Kind([plain, labels, gzip.compress(plain)], of_file("f", read_idx))


def npz() -> Kind:
    """Images and labels as arrays."""
    import numpy as np

    from mekiki.data.arrays import load_npz

    def save(stream: io.BytesIO, compressed: bool, labels: object) -> None:
        (np.savez_compressed if compressed else np.savez)(
            stream, images=np.zeros((4, 3, 3), np.uint8), labels=np.array(labels)
        )

    seeds = [_saved(lambda s: save(s, False, [0, 1, 0, 1])), _saved(lambda s: save(s, True, [*"abab"]))]
    return Kind(seeds, of_file("f.npz", load_npz))


def images() -> Kind:
    """Photographs of every format that is read."""
    import numpy as np
    from PIL import Image

    from mekiki.data.decoding import decode, read_header

    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    seeds = []
    for form, pixels in (
        ("PNG", grey),
        ("PNG", np.stack([grey] * 4, axis=2)),
        ("PNG", grey.astype(np.uint16)),
        ("JPEG", grey),
        ("BMP", grey),
        ("TIFF", grey),
        ("TIFF", grey.astype(np.float32)),
        ("WEBP", np.stack([grey] * 3, axis=2)),
    ):
        seeds.append(_saved(lambda s, form=form, pixels=pixels: Image.fromarray(pixels).save(s, form)))

    def read(path: Path) -> None:
        read_header(path)
        decode(path, (8, 8), 1)
        decode(path, None, 3)

    return Kind(seeds, of_file("f.png", read))


def tables() -> Kind:
    """What people write by hand: notes, texts, triplets of words."""
    from mekiki.cases.case_triplets import read_triplet_rows
    from mekiki.cases.note_files import read_notes
    from mekiki.describing.texts import read_texts

    seeds = [
        b"file,label,note\na.png,ng,oil leak\n",
        "file,note\na.png,油漏れ\n".encode("cp932"),
        b'file,text,defect,place,severity\na.png,"a scratch, left",scratch,left,slight\n',
        b"anchor,positive,negative\na,b,c\n",
    ]

    def read(path: Path) -> None:
        from mekiki.errors import InputError

        for one in (read_notes, read_texts, read_triplet_rows):
            try:
                one(path)
            except InputError:
                continue

    return Kind(seeds, of_file("f.csv", read))


def vectors_csv() -> Kind:
    """Vectors as text."""
    from mekiki.storage.vector_table import read_vectors

    return Kind([b"name,label,v1,v2\na.png,ok,0.5,-1.0\nb.png,,1e3,nan\n"], of_file("f.csv", read_vectors))


def vectors_npz() -> Kind:
    """Vectors and triplets of vectors as arrays."""
    import numpy as np

    from mekiki.cases.case_triplets import SIDES, read_triplets
    from mekiki.errors import InputError
    from mekiki.storage.vector_table import read_vectors

    two = np.zeros((2, 3), np.float32)
    seeds = [
        _saved(lambda s: np.savez(s, vectors=two, names=np.array(["a", "b"]), labels=np.array(["", "x"]))),
        _saved(lambda s: np.savez(s, **dict.fromkeys(SIDES, two))),
    ]

    def read(path: Path) -> None:
        for one in (read_vectors, read_triplets):
            try:
                one(path)
            except InputError:
                continue

    return Kind(seeds, of_file("f.npz", read))


def parquet() -> Kind:
    """Vectors, triplets and exported cases."""
    import numpy as np
    import pyarrow
    from pyarrow import parquet as library

    from mekiki.cases.case import Case, Cases, schema
    from mekiki.cases.case_triplets import SIDES, read_triplets
    from mekiki.cases.parquet import encoder_of, read_cases
    from mekiki.errors import InputError
    from mekiki.storage.vector_table import VectorTable, read_vectors, write_vectors

    made = folder() / "made.parquet"
    seeds = []
    write_vectors(made, VectorTable(np.zeros((2, 3), np.float32), ["a", "b"], ["", "x"]))
    seeds.append(made.read_bytes())
    library.write_table(pyarrow.table({side: [[0.0, 1.0], [2.0, 3.0]] for side in SIDES}), made)
    seeds.append(made.read_bytes())
    facts = {b"mekiki.encoder": json.dumps({"name": "n", "fingerprint": "f", "dimension": 3}).encode()}
    cases = Cases.of([Case("a", np.zeros(3, np.float32), encoder="f")])
    library.write_table(cases.table.cast(schema(3)).replace_schema_metadata(facts), made)
    seeds.append(made.read_bytes())

    def read(path: Path) -> None:
        for one in (read_vectors, read_triplets, encoder_of, lambda path: list(read_cases(path))):
            try:
                one(path)
            except InputError:
                continue

    return Kind(seeds, of_file("f.parquet", read))


def checkpoint() -> Kind:
    """The state of a training."""
    import torch
    from torch import nn

    from mekiki.training.checkpoints import read_checkpoint, save_checkpoint

    net = nn.Linear(2, 2)
    path = folder() / "made.safetensors"
    save_checkpoint(
        path,
        model=net,
        loss=nn.Identity(),
        optimizer=torch.optim.Adam(net.parameters()),
        history={"epoch": [1.0]},
        settings={"a": 1},
    )
    from safetensors.torch import load, save

    unsealed = save(
        load(path.read_bytes()), {"mekiki": json.dumps({"history": {"epoch": [1]}, "settings": {}})}
    )
    return Kind([path.read_bytes(), unsealed], of_file("f.safetensors", read_checkpoint))


def adapter() -> Kind:
    """What was learnt from feedback."""
    import numpy as np
    from safetensors.torch import save

    from mekiki.cases.adapter import Adapter
    from mekiki.cases.adapter_store import load_adapter
    from mekiki.storage.run_folder import ADAPTER_FORMAT
    from mekiki.training.callbacks import copy_weights

    made = Adapter(np.zeros(4, np.float32), 1.0, 2, "linear")
    facts = {"format": ADAPTER_FORMAT, "kind": made.kind, "rank": made.rank, "dimension": made.dimension}
    return Kind(
        [save(copy_weights(made), {"facts": json.dumps(facts)})], of_file("f.safetensors", load_adapter)
    )


def config() -> Kind:
    """Settings of a trained network, without checksums before them."""
    from mekiki.embedder import Embedder

    content = json.loads((sample() / "config.json").read_text())
    for name in ("same_quantiles", "different_quantiles"):
        content["distances"][name] = [0.0, 1.0]
    return Kind([json.dumps(content).encode()], of_run("config.json", Embedder.load, sealed=False))


def weights() -> Kind:
    """Weights of a trained network, without checksums before them."""
    from mekiki.embedder import Embedder

    content = (sample() / "reference.safetensors").read_bytes()
    return Kind([content], of_run("reference.safetensors", Embedder.load, sealed=False))


def history() -> Kind:
    """One row an epoch."""
    from mekiki.embedder import Embedder

    return Kind([(sample() / "history.csv").read_bytes()], of_run("history.csv", Embedder.load, sealed=False))


def judge_json() -> Kind:
    """What a judge says of itself, without checksums before it."""
    from mekiki.judging.judge_photos import Inspector

    content = (sample() / "judge" / "judge.json").read_bytes()
    return Kind([content], of_run("judge/judge.json", Inspector.open, sealed=False))


def manifest() -> Kind:
    """Checksums themselves."""
    from mekiki.storage.manifest import Manifest

    return Kind([(sample() / "manifest.json").read_bytes()], of_run("manifest.json", Manifest.of))


def settings() -> Kind:
    """How a run remembers."""
    from mekiki.cases.run_memory import MemoryConfig, RunMemory

    run = folder() / "made"
    run.mkdir(exist_ok=True)
    RunMemory(run, MemoryConfig("cases", "model", 3)).save_config()
    seeds = [(run / "memory.json").read_bytes(), b'{"store": null, "text": null, "dimensions": 3}']
    return Kind(seeds, of_run("memory.json", RunMemory))


def lessons() -> Kind:
    """The book of lessons."""
    from mekiki.judging.corrections import read_corrections

    return Kind([(sample() / "lessons.jsonl").read_bytes()], of_run("lessons.jsonl", read_corrections))


def feedback() -> Kind:
    """The log of feedback."""
    from mekiki.cases.feedback import FeedbackLog
    from mekiki.storage.events import append_event

    said = [{"case": "a", "vector": [0.0, 1.0], "good": True, "reach": [0.0, 1.0]}]
    facts = {
        "space": "images",
        "encoder": "f",
        "asked": "",
        "query": [0.0, 1.0],
        "step": 1.0,
        "similar": [0.0, 1.0],
        "who": "w",
        "when": "2026-01-01T00:00:00+00:00",
        "said": said,
    }
    path = folder() / "made.jsonl"
    path.unlink(missing_ok=True)
    append_event(path, facts)
    append_event(path, {"undo": 1})
    plain = json.dumps(facts).encode() + b"\n"
    return Kind(
        [path.read_bytes(), plain], of_run("feedback.jsonl", lambda run: FeedbackLog(run).judgements())
    )


def watched() -> Kind:
    """What watching wrote."""
    from mekiki.judging.results import COLUMNS
    from mekiki.judging.watch import read_results

    header = f"size,changed_ns,{','.join(COLUMNS)}\r\n".encode()
    row = (
        "10,20," + ",".join({"file": "a.png", "p": "0.5"}.get(name, "") for name in COLUMNS) + "\r\n"
    ).encode()
    return Kind([header + row + row], of_file("f.csv", read_results))


KINDS: dict[str, Callable[[], Kind]] = {
    made.__name__: made
    for made in (
        idx,
        npz,
        images,
        tables,
        vectors_csv,
        vectors_npz,
        parquet,
        checkpoint,
        adapter,
        config,
        weights,
        history,
        judge_json,
        manifest,
        settings,
        lessons,
        feedback,
        watched,
    )
}


def mutated(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """A file with one to five things done to it."""
    made = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        place = rng.randrange(len(made) + 1)
        match rng.randrange(8):
            case 0 | 1 if made:
                made[place % len(made)] ^= 1 << rng.randrange(8)
            case 2:
                del made[place:]
            case 3:
                made[place:place] = rng.randbytes(rng.randrange(1, 9))
            case 4:
                size = rng.choice((1, 2, 4, 8))
                number = rng.choice(EXTREME) & (256**size - 1)
                made[place : place + size] = number.to_bytes(size, rng.choice(("little", "big")))
            case 5:
                del made[place : place + rng.randrange(1, 17)]
            case 6:
                digits = rng.choice(
                    (b"-1", b"0", b"1e999", b"99999999999", b"null", b"[]", b"{}", b'""', b"NaN")
                )
                made[place : place + rng.randrange(len(digits) + 1)] = digits
            case _:
                start = rng.randrange(len(other) + 1)
                made[place:] = other[start:]
    return bytes(made)


def refused_or_read(kind: Kind, content: bytes) -> None:
    """Give a content to its reader; only an `InputError` in one line may come of it."""
    from mekiki.errors import InputError

    try:
        kind.read(content)
    except InputError as error:
        assert str(error).strip() and "\n" not in str(error), f"not one line: {error!s}"


def blind(name: str, runs: int, seconds: float, seed: int, corpus: Path | None) -> dict[str, object]:
    """Files by chance, until so many were read or the time is over; stops at nothing, and counts what failed."""
    kind, rng = KINDS[name](), random.Random(seed)
    deadline, done, failed = time.monotonic() + seconds, 0, 0
    seen: set[str] = set()
    signal.signal(signal.SIGALRM, _too_long)
    while done < runs and time.monotonic() < deadline:
        content = mutated(rng.choice(kind.seeds), rng.choice(kind.seeds), rng)
        signal.alarm(PATIENCE)
        try:
            refused_or_read(kind, content)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            failed += 1
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__} {last.filename}:{last.lineno}"
            if where not in seen:
                seen.add(where)
                sys.stderr.write("".join(traceback.format_exception(error)[-4:]))
                if corpus is not None:
                    corpus.mkdir(parents=True, exist_ok=True)
                    (corpus / f"{name}-{len(seen):02}").write_bytes(content)
        finally:
            signal.alarm(0)
        done += 1
    return {"kind": name, "runs": done, "failed": failed, "by": "chance"}


def _too_long(*_: object) -> None:
    raise TimeoutError(f"more than {PATIENCE} s")


def led(name: str, runs: int, seconds: float, seed: int) -> None:
    """The same, led by the coverage of our own code; ends the process."""
    import atheris

    with atheris.instrument_imports(include=["mekiki"]):
        kind = KINDS[name]()
    place = folder() / "seeds"
    place.mkdir(exist_ok=True)
    for number, content in enumerate(kind.seeds):
        (place / str(number)).write_bytes(content)
    flags = [f"-runs={runs}", f"-max_total_time={int(seconds)}", f"-seed={seed + 1}", f"-timeout={PATIENCE}"]
    flags += [
        f"-rss_limit_mb={MEMORY.get(name, 2048)}",
        "-print_final_stats=1",
        "-verbosity=0",
        "-max_len=65536",
    ]
    flags += [f"-artifact_prefix={SCRATCH}/mekiki-crash-{name}-"]
    atheris.Setup([sys.argv[0], *flags, str(place)], lambda content: refused_or_read(kind, content))
    atheris.Fuzz()


def main(arguments: list[str] | None = None) -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--blind", action="store_true")
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    if given.one:
        import resource  # which Windows has not

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        (name,) = given.kinds
        if given.blind:
            told = blind(name, given.runs, given.seconds, given.seed, given.corpus)
            print(json.dumps(told | {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))
            return
        led(name, given.runs, given.seconds, given.seed)
        return
    for name in given.kinds or KINDS:
        print(json.dumps(_in_a_process(name, given)), flush=True)


def _in_a_process(name: str, given: argparse.Namespace) -> dict[str, object]:
    command = [sys.executable, "-m", "benchmarks.fuzzing", "--one", name, "--runs", str(given.runs)]
    command += ["--seconds", str(given.seconds), "--seed", str(given.seed)]
    command += ["--blind"] if given.blind else []
    command += ["--corpus", str(given.corpus)] if given.corpus else []
    start = time.monotonic()
    done = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = done.communicate()
    shutil.rmtree(SCRATCH / f"mekiki-fuzzing-{done.pid}", ignore_errors=True)
    seconds = round(time.monotonic() - start, 1)
    if given.blind:
        sys.stderr.write(err)
        if done.returncode:
            return {"kind": name, "runs": 0, "failed": 1, "code": done.returncode, "seconds": seconds}
        return json.loads(out.splitlines()[-1]) | {"seconds": seconds}
    stats = dict(line[6:].split(":") for line in err.splitlines() if line.startswith("stat::"))
    if done.returncode:
        sys.stderr.write(err[-6000:])
    return {
        "kind": name,
        "runs": int(stats.get("number_of_executed_units", 0)),
        "failed": int(done.returncode != 0),
        "by": "coverage",
        "peak_mb": int(stats.get("peak_rss_mb", 0)),
        "seconds": seconds,
    }


if __name__ == "__main__":
    main()
