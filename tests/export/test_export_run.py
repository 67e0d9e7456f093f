"""A run as a graph: it says what the program says, it carries what its user must know, and nothing half is written."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mekiki import Embedder
from mekiki.errors import InputError
from mekiki.export import export_run as room
from mekiki.export.export_run import export_run
from mekiki.export.onnx_graph import OPSET, PREFIX, ExportModule, Runtime
from mekiki.export.parity import TOLERANCE, Program, compare, odd_images, threshold_neighbours
from mekiki.judging.calibrate import CalibrationSettings, calibrate_run
from mekiki.judging.extractors import BackboneExtractor, EmbedderExtractor
from mekiki.judging.judge_photos import Inspector
from mekiki.judging.teach import teach
from parts import QUADRANTS, contents, images, ok_folder, part, save

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "judge_with_onnxruntime.py"
SIDE = 32


# ---- what is written down, against the program: as modules, which takes no time ----


def colours(image):
    """A grey image with a colour cast that changes from left to right."""
    tint = np.linspace(0.6, 1.0, image.shape[1])[None, :, None] * [1.0, 0.9, 0.7]
    return (image[..., None] * tint).astype(np.uint8)


def looked_at(channels, size, seed=50):
    """Good and bad parts of a size, and odd images."""
    shape = (*size, 3) if channels == 3 else size
    parts = [
        part(seed + number, *size, blot=(size[0] // 2, size[1] // 2) if number % 2 else None)
        for number in range(6)
    ]
    return [colours(image) if channels == 3 else image for image in parts] + odd_images(shape)


def beside(extractor, inspector, size, channels=None):
    """The module beside the program, on what it looks at."""
    whole = ExportModule(extractor, size, inspector, channels).eval()
    program = Program(extractor, list(whole.widths), inspector)

    def graph(block):
        with torch.no_grad():
            said = whole(torch.from_numpy(block))
        return {name: output.numpy() for name, output in zip(whole.names, said, strict=True)}

    channels = channels or extractor.channels
    return compare("parts", graph, program, whole.widths, whole.types, looked_at(channels, size))


def small_model(kind, resample):
    transformers = pytest.importorskip("transformers")
    if kind == "resnet":
        settings = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], layer_type="basic"
        )
        model = transformers.ResNetModel(settings)
    else:
        settings = transformers.ViTConfig(
            hidden_size=24,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=SIDE,
            patch_size=8,
        )
        model = transformers.ViTModel(settings, add_pooling_layer=False)
    given = {"size": SIDE, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3], "resample": resample}
    return model.eval(), given


def small_backbone(folder, kind, resample=2):
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, given = small_model(kind, resample)
        model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(given))
    return f"hf:{folder}"


@pytest.mark.parametrize(("kind", "resample"), [("vit", 3), ("vit", 2), ("resnet", 3)])
@pytest.mark.parametrize("size", [(SIDE, SIDE), (50, 40), (200, 90)])
def test_a_backbone_sees_the_same_at_any_size_twice_too(tmp_path, kind, resample, size):
    from mekiki.models.backbone import Backbone

    extractor = BackboneExtractor(Backbone.load(small_backbone(tmp_path / "net", kind, resample)))
    extractor.fit([[part(0, *size)]])
    assert extractor.second_pass == (size != (SIDE, SIDE))
    row = beside(extractor, None, size)
    assert row.images > 15
    assert row.vector < 1e-5
    assert beside(extractor, None, size, channels=1).vector < 1e-5


@pytest.mark.parametrize("size", [(64, 64), (150, 170), (700, 90)])
def test_filters_see_the_same_at_any_size_in_colour_and_in_grey(size):
    from mekiki.judging.extractors import ScatteringExtractor

    assert beside(ScatteringExtractor(), None, size).vector < 5e-5
    assert beside(ScatteringExtractor(), None, size, channels=1).vector < 5e-5


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize(("encoder", "dim"), [("mlp", 2), ("conv", 3), ("vgg", 40)])
def test_an_embedder_gives_the_same_vectors(encoder, dim, colour):
    pixels = np.stack([part(number, SIDE, SIDE) for number in range(32)])
    pixels = np.stack([colours(image) for image in pixels]) if colour else pixels
    embedder = Embedder(
        "softmax", dim, encoder=encoder, normalise=dim == 3, epochs=1, batch_size=8, device="cpu"
    )
    extractor = EmbedderExtractor(embedder.fit(pixels, np.arange(32) % 2))
    for size in ((SIDE, SIDE), (45, 170)):
        assert beside(extractor, None, size).vector < 1e-5


@pytest.mark.parametrize("side", [SIDE, 20])
@pytest.mark.parametrize("fine_tune", [False, True])
def test_an_embedder_on_a_backbone_gives_the_same_vectors(tmp_path, monkeypatch, fine_tune, side):
    monkeypatch.setenv("MEKIKI_CACHE", str(tmp_path / "cache"))
    pixels = np.stack([part(number, side, side) for number in range(16)])
    embedder = Embedder(
        "softmax",
        3,
        encoder=small_backbone(tmp_path / "net", "resnet", 3),
        fine_tune=fine_tune,
        epochs=1,
        batch_size=8,
        device="cpu",
    )
    extractor = EmbedderExtractor(embedder.fit(pixels, np.arange(16) % 2))
    assert beside(extractor, None, (50, 60)).vector < 1e-5


@pytest.mark.parametrize(
    "terms",
    [
        CalibrationSettings(0.1),
        CalibrationSettings(0.1, how="max"),
        CalibrationSettings(0.2, confidence=0.9),
        CalibrationSettings(0.018),
        CalibrationSettings(0.1, detectors=("memory",)),
        CalibrationSettings(0.1, detectors=("mt", "places", "subspace")),
        CalibrationSettings(0.1, detectors=("mt",)),
    ],
    ids=["sum", "max", "confidence", "across", "memory", "without memory", "mt"],
)
def test_every_kind_of_calibration_judges_the_same(tmp_path, net, ok, ng, terms):
    inspector, calibration = calibrate_run(tmp_path / "run", [ok], [ng], encoder=net, settings=terms)
    assert calibration.metadata["method"] == ("cross" if terms.false_reject < 0.02 else "split")
    row = beside(inspector.extractor, inspector, (64, 64))
    assert row.equal
    assert row.p == 0


def test_lessons_are_in_force_in_the_graph_too(run, tmp_path):
    before = ExportModule(Inspector.open(run).extractor, (64, 64), Inspector.open(run))
    faint = save(tmp_path / "faint.png", part(700, blot=(16, 16), lift=25))
    strange = save(tmp_path / "strange.png", part(701, blot=(48, 48), size=10, lift=60))
    teach(run, faint, "NG:dent")
    teach(run, strange, "OK")
    inspector = Inspector.open(run)
    whole = ExportModule(inspector.extractor, (64, 64), inspector).eval()
    assert "dent" in whole.types
    assert "dent" not in before.types
    assert beside(inspector.extractor, inspector, (64, 64)).equal
    alike = [colours(part(710 + number, blot=(16, 16), lift=25)) for number in range(6)]
    program = Program(inspector.extractor, list(whole.widths), inspector)
    with torch.no_grad():
        said = dict(zip(whole.names, whole(torch.from_numpy(np.stack(alike))), strict=True))
    theirs = program(alike)
    kinds = [whole.types[place] if place >= 0 else "" for place in said["kind"].tolist()]
    assert kinds == [one.kind for one in theirs]
    assert said["surprise"].shape[1] == len(inspector.judge.columns) + 1
    assert said["score"].numpy() == pytest.approx([one.score for one in theirs], rel=TOLERANCE)


def test_a_taught_photograph_itself_is_counted_and_left_out(run, tmp_path):
    pixels = np.repeat(part(1000)[..., None], 3, axis=2)
    teach(run, save(tmp_path / "one.png", pixels), "NG:dull")
    inspector = Inspector.open(run)
    whole = ExportModule(inspector.extractor, (64, 64), inspector)
    (said,) = Program(inspector.extractor, list(whole.widths), inspector)([pixels])
    assert said.taught
    assert said.ng


def test_neighbours_lie_on_both_sides_and_close(run):
    inspector = Inspector.open(run)
    program = Program(inspector.extractor, list(inspector.judge.spaces), inspector)
    parts = [part(50 + number, blot=(16, 16) if number % 2 else None) for number in range(8)]
    parts = [np.repeat(image[..., None], 3, axis=2) for image in parts]
    made = threshold_neighbours(program, parts)
    said = program(made)
    assert {one.ng for one in said} == {False, True}
    apart = np.array([abs(one.score / program.threshold - 1) for one in said])
    assert apart.min() < 0.01
    assert apart[:8].mean() < apart[-8:].mean()
    made = threshold_neighbours(program, parts[::2])  # all of one verdict: the other side is made of them
    assert {one.ng for one in program(made)} == {False, True}


def test_a_differing_score_a_differing_verdict_and_a_step_are_told_apart(run):
    inspector = Inspector.open(run)
    size = (64, 64)
    whole = ExportModule(inspector.extractor, size, inspector).eval()
    program = Program(inspector.extractor, list(whole.widths), inspector)

    def graph(block, **changes):
        with torch.no_grad():
            said = whole(torch.from_numpy(block))
        told = {name: output.numpy().copy() for name, output in zip(whole.names, said, strict=True)}
        return told | {name: change(told[name]) for name, change in changes.items()}

    def row(**changes):
        block = looked_at(3, size)
        return compare("parts", lambda b: graph(b, **changes), program, whole.widths, whole.types, block)

    assert row().equal
    assert row(ng=np.logical_not).verdicts == row().images
    assert row(kind=lambda kind: kind * 0 - 1).verdicts > 0
    wrong = row(score=lambda score: score * 1.001)
    assert not wrong.equal
    assert (wrong.steps, wrong.verdicts) == (0, 0)
    assert not row(vector=lambda vector: vector * 1.001).equal


# ---- the file ----


@pytest.fixture(scope="session")
def line(tmp_path_factory, net):
    """A run calibrated on parts in colour, exported with its judge, and what was told."""
    place = tmp_path_factory.mktemp("exported")
    for number in range(60):
        save(place / "ok" / f"{number}.png", colours(part(number, 72, 80)))
    for number in range(12):
        blot = QUADRANTS[number % 4]
        save(place / "ng" / "blot" / f"{number}.png", colours(part(400 + number, 72, 80, blot=blot)))
    calibrate_run(
        place / "run", [place / "ok"], [place / "ng"], encoder=net, settings=CalibrationSettings(0.1)
    )
    told = export_run(place / "run", with_judge=True)
    return place / "run", told


def test_the_graph_is_equal_on_photographs_neighbours_and_odd_images(line):
    run, told = line
    groups = {row["group"]: row for row in told["parity"]}
    assert list(groups) == ["next to the threshold", "photographs", "odd images"]
    assert all(
        row["verdicts"] == 0 and row["score"] <= TOLERANCE and row["vector"] <= 1e-5
        for row in groups.values()
    )
    assert groups["photographs"]["images"] == 72
    assert groups["next to the threshold"]["nearest"] < 0.01
    assert json.loads((run / "export.json").read_text()) == told
    assert told["bytes"] == (run / "export.onnx").stat().st_size


def test_any_number_of_photographs_goes_through_and_each_alone_says_the_same(line):
    run, _ = line
    graph = Runtime((run / "export.onnx").read_bytes())
    block = np.stack([colours(part(900 + number, 72, 80)) for number in range(7)])
    together = graph(block)
    for number in (0, 3, 6):
        alone = graph(block[number : number + 1])
        for name, output in together.items():
            assert np.allclose(alone[name][0], output[number], rtol=1e-4, atol=1e-5), name


def test_the_graph_says_what_its_user_must_know_and_nothing_of_this_machine(line):
    run, told = line
    content = (run / "export.onnx").read_bytes()
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model)
    assert [each.version for each in model.opset_import if each.domain == ""] == [OPSET]
    facts = {each.key.removeprefix(PREFIX): each.value for each in model.metadata_props}
    judge = Inspector.open(run).judge
    assert json.loads(facts["size"]) == [72, 80]
    assert facts["mode"] == "RGB"
    assert facts["run"] == "run"
    assert facts["model"].startswith("hf:")
    assert float(facts["threshold"]) == judge.threshold.value
    assert float(facts["false_reject"]) == 0.1
    assert list(json.loads(facts["views"])) == list(judge.spaces)
    assert json.loads(facts["kinds"])[0] == "blot"
    assert {"version", "model_fingerprint", "judge_fingerprint", "guarantee", "input"} <= set(facts)
    said = [output.name for output in model.graph.output]
    assert said == told["outputs"] == ["vector", "distance", "score", "p", "ng", "surprise", "kind"]
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert [each.dim_param != "" for each in shape] == [True, False, False, False]
    source = str(Path(__file__).parent.parent.parent / "src").encode()
    assert source not in content
    assert b"stack_trace" not in content


def test_the_example_judges_without_torch_as_mekiki_does(line, tmp_path):
    run, _ = line
    for number in range(6):
        blot = QUADRANTS[number % 4] if number % 2 else None
        save(tmp_path / "new" / f"{number}.png", colours(part(800 + number, 72, 80, blot=blot)))
    (tmp_path / "bare").mkdir()
    for library in ("torch", "mekiki", "transformers", "onnx"):
        (tmp_path / "bare" / f"{library}.py").write_text("raise ImportError('not here')\n")
    files = [str(path) for path in images(tmp_path / "new")]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "bare")}
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), str(run / "export.onnx"), *files],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    said = [row.split("\t") for row in done.stdout.splitlines()]
    theirs = list(Inspector.open(run).judge_files([Path(file) for file in files]))
    assert {one.verdict for one in theirs} == {"OK", "NG"}
    for row, one in zip(said, theirs, strict=True):
        assert (row[0], row[1], row[4]) == (str(one.photo.path), one.verdict, one.defect_type)
        assert float(row[2]) == pytest.approx(one.score, rel=TOLERANCE)
        assert float(row[3]) == pytest.approx(one.p, abs=1e-6)
    assert len(EXAMPLE.read_text().splitlines()) <= 30


def test_a_graph_that_judges_otherwise_is_refused_and_the_old_file_stays(line, tmp_path, monkeypatch):
    run = Path(shutil.copytree(line[0], tmp_path / "run"))
    graph = onnx.load(run / "export.onnx")
    monkeypatch.setattr(room, "trace", lambda *_: (graph, []))
    export_run(run, with_judge=True)
    inspector = Inspector.open(run)
    inspector.judge.set_rate(0.3)  # the judge is another one than the graph was made of
    monkeypatch.setattr(room.Inspector, "open", lambda _: inspector)
    before = contents(run)
    with pytest.raises(
        InputError, match=r"export.onnx: is not written.*next to the threshold: \d+ of 48 verdicts"
    ):
        export_run(run, with_judge=True)
    assert contents(run) == before


def test_a_trained_run_gives_vectors_of_grey_images_with_no_judge(tmp_path):
    pixels = np.stack([part(number, SIDE, SIDE) for number in range(32)])
    embedder = Embedder("softmax", 3, epochs=1, batch_size=8, device="cpu").fit(pixels, np.arange(32) % 2)
    embedder.save(tmp_path / "run")
    (tmp_path / "run" / "metrics.json").write_text("{}")
    told = export_run(tmp_path / "run", tmp_path / "there" / "eye.onnx", size=(40, 50))
    assert told["outputs"] == ["vector"]
    assert told["mode"] == "L"
    graph = Runtime((tmp_path / "there" / "eye.onnx").read_bytes())
    large = np.stack([part(number, 40, 50) for number in range(3)])
    theirs = Program(EmbedderExtractor(embedder), ["embedding"], None)(list(large))
    assert graph(large)["vector"] == pytest.approx(
        np.stack([one.vector for one in theirs]), rel=1e-4, abs=1e-4
    )
    with pytest.raises(InputError, match="is not calibrated"):
        export_run(tmp_path / "run", with_judge=True)


def test_what_a_person_gets_wrong_is_told_in_one_line(mekiki, line, tmp_path):
    run, _ = line
    mixed = tmp_path / "mixed"
    ok_folder(mixed / "ok", 30, height=64)
    ok_folder(mixed / "more", 10, seed=100, height=70)
    calibrate_run(mixed / "run", [mixed / "ok", mixed / "more"], settings=CalibrationSettings(0.1))
    before = contents(run)
    for arguments, said in (
        ((run, "--to", "tensorrt"), "only onnx"),
        ((run, "-o", "graph.bin"), "ends in .onnx"),
        ((run, "--flips", "0.1"), "--flips goes with --int8"),
        ((run, "--int8", "--flips", "2"), "a share from 0"),
        ((run, "--size", "0"), "--size 0"),
        ((run, "--size", "9999"), "1 … 4096 pixels"),
        ((tmp_path / "nowhere",), "no such folder"),
        ((mixed / "run", "--with-judge"), "64…70×64…64 pixels, and a graph takes one size"),
    ):
        assert said in mekiki("export", *arguments).error
    assert contents(run) == before


# ---- minutes ----


@pytest.mark.slow
def test_eight_bits_say_what_they_cost_and_are_refused_where_photographs_flip(tmp_path):
    pixels = np.stack(
        [part(number, SIDE, SIDE, blot=(16, 16) if number % 2 else None, size=10) for number in range(200)]
    )
    # The directions of so easy a task that softmax leaves nearly empty would be magnified, and no graph be right.
    embedder = Embedder("triplet", 2, encoder="conv", epochs=6, batch_size=16, device="cpu", random_state=3)
    embedder.fit(pixels, np.arange(200) % 2).save(tmp_path / "run")
    (tmp_path / "run" / "metrics.json").write_text("{}")
    ok = ok_folder(tmp_path / "ok", 80, seed=3000, height=SIDE, width=SIDE)
    calibrate_run(tmp_path / "run", [ok], settings=CalibrationSettings(0.1))
    told = export_run(tmp_path / "run", with_judge=True, int8=True, flips=0.5)
    costs = told["costs"]
    assert costs["bytes"]["int8"] < 0.6 * costs["bytes"]["float"]
    (own,) = (row for row in costs["parity"] if row["group"] == "photographs")
    assert own["score"] > TOLERANCE
    assert own["verdicts"] <= 0.5 * own["images"]
    assert (tmp_path / "run" / "export-int8.onnx").stat().st_size == told["bytes"]
    calibrate_run(tmp_path / "filters", [ok], settings=CalibrationSettings(0.1))
    with pytest.raises(InputError, match="filters have no weights"):
        export_run(tmp_path / "filters", with_judge=True, int8=True)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["transformer", "lessons", "across", "fine-tuned"])
def test_what_the_modules_say_the_file_says_too(tmp_path, monkeypatch, net, ok, ng, case):
    monkeypatch.setenv("MEKIKI_CACHE", str(tmp_path / "cache"))
    run, encoder, terms = tmp_path / "run", net, CalibrationSettings(0.018 if case == "across" else 0.1)
    if case == "transformer":
        encoder = small_backbone(tmp_path / "net", "vit", 3)
    if case == "fine-tuned":
        pixels = np.stack([part(number) for number in range(16)])
        small = small_backbone(tmp_path / "net", "resnet")
        embedder = Embedder("softmax", 3, encoder=small, fine_tune=True, epochs=1, batch_size=8, device="cpu")
        embedder.fit(pixels, np.arange(16) % 2).save(run)
        (run / "metrics.json").write_text("{}")
        told = export_run(run)
        assert told["outputs"] == ["vector"]
        return
    calibrate_run(run, [ok], [ng], encoder=encoder, settings=terms)
    if case == "lessons":
        teach(run, save(tmp_path / "faint.png", part(700, blot=(16, 16), lift=25)), "NG:dent")
        teach(run, save(tmp_path / "strange.png", part(701, blot=(48, 48), size=10, lift=60)), "OK")
    told = export_run(run, with_judge=True)
    assert [row["verdicts"] for row in told["parity"]] == [0, 0, 0]
    assert ("dent" in told["kinds"]) == (case == "lessons")
    assert (told["threshold"] is None) == (case == "across")


@pytest.mark.slow
def test_ten_thousand_images_and_no_verdict_differs(tmp_path, real_data):
    """Generated surfaces, real tiles, and tiles shifted, darkened and blended: all of one size."""
    from mekiki.data.decoding import decode
    from mekiki.data.load import load_images

    size = (88, 88)
    tiles = real_data / "magnetic_tile"
    good = images(tiles / "free")
    bad = [path for kind in ("blowhole", "crack", "fray") for path in images(tiles / kind)]
    for path in (*good, *bad):
        folder = tmp_path / ("ok" if path in set(good) else "ng")
        save(folder / f"{path.stem}.png", decode(path, size, 1).pixels)
    encoder = f"hf:{real_data / 'weights' / 'mobilenet_v1_0.75_224'}"
    inspector, _ = calibrate_run(
        tmp_path / "run",
        [tmp_path / "ok"],
        [tmp_path / "ng"],
        encoder=encoder,
        settings=CalibrationSettings(0.05),
    )
    told = export_run(tmp_path / "run", with_judge=True)
    graph = Runtime((tmp_path / "run" / "export.onnx").read_bytes())
    program = Program(inspector.extractor, list(told["views"]), inspector)
    rng = np.random.default_rng(0)
    photographs = [
        decode(path, None, 1).pixels for path in [*images(tmp_path / "ok"), *images(tmp_path / "ng")]
    ]
    surfaces = load_images("surfaces", size=size, channels=1, per_class=500, seed=3)
    total = list(photographs) + list(surfaces.train.pixels)
    while len(total) < 10_000:
        one, other = (photographs[int(place)] for place in rng.integers(0, len(photographs), 2))
        share = rng.beta(0.5, 0.5)
        mixed = (1 - share) * one + share * np.roll(other, int(rng.integers(-3, 4)), axis=1)
        total.append(np.clip(mixed * rng.uniform(0.9, 1.1), 0, 255).astype(np.uint8))
    row = compare("all", graph, program, told["views"], told["kinds"], total)
    assert row.images == 10_000
    assert row.verdicts == 0, row
    assert row.score <= TOLERANCE, row
