"""The peers that our judge is compared with: what each computes, and the comparison on generated surfaces."""

import json
import sys

import numpy as np
import pytest
from benchmarks import __main__ as bench
from benchmarks import judging_peers, measuring
from benchmarks.generated_parts import write_parts
from PIL import Image
from sklearn.covariance import LedoitWolf

from mekiki.data.surfaces import generate_surfaces
from mekiki.errors import InputError
from mekiki.models.backbone import Backbone


class Grids(judging_peers.BackboneFeatures):
    """Layers as given, in place of a backbone's."""

    def __init__(self, *grids):
        self.grids = [grid.astype(np.float16) for grid in grids]


def normal_grids(seed=0, number=60):
    """Two layers of 60 photographs whose channels vary together; the last ten have one odd place."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(3, 12))
    fine = rng.normal(size=(number, 6, 6, 3)) @ mixing + 0.1 * rng.normal(size=(number, 6, 6, 12))
    coarse = rng.normal(size=(number, 3, 3, 8))
    fine[-10:, 2:5, 3:6] += 4 * rng.normal(size=12)
    coarse[-10:, 1, 1] += 15
    return Grids(fine, coarse)


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory):
    """A folder with ok and ng: 70 clean surfaces, and 6 with a crack or a stain."""
    folder = tmp_path_factory.mktemp("surfaces")
    made = generate_surfaces(per_class=70)
    for row, name in enumerate(made.names):
        kind, number = name.split("/")[1:]
        if kind == "clean" or (kind in ("crack", "stain") and int(number) < 3):
            place = folder / ("ok" if kind == "clean" else f"ng/{kind}")
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(made.pixels[row]).save(place / f"{number}.png")
    return folder


@pytest.mark.parametrize("name", judging_peers.PEERS)
def test_an_odd_place_ranks_above_all_ordinary_photographs(name):
    learnt, judged = np.arange(30), np.arange(30, 60)
    scores = judging_peers.PEERS[name](normal_grids(), learnt, judged, np.random.default_rng(0))
    assert scores.shape == (30,)
    assert scores[20:].min() > scores[:20].max()


def test_layers_are_brought_to_the_finest_grid_with_means_over_neighbours():
    ramp = np.arange(16.0).reshape(1, 4, 4, 1)
    (block,) = Grids(ramp, np.full((1, 2, 2, 2), 7.0)).blocks(np.array([0]), 0, neighbours=True)
    assert block.shape == (1, 16, 3)
    assert block[0, :, 1:].tolist() == [[7, 7]] * 16
    assert block[0, 5, 0] == 5  # the middle of the 3×3 ramp around it
    assert block[0, 0, 0] == np.mean([0, 1, 4, 5])  # at the corner only places that exist


def test_a_finer_layer_is_averaged_on_the_grid_of_a_coarser_one():
    ramp = np.arange(16.0).reshape(1, 4, 4, 1)
    (block,) = Grids(ramp, np.full((1, 2, 2, 2), 7.0)).blocks(np.array([0]), 1)
    assert block[0].tolist() == [[2.5, 7, 7], [4.5, 7, 7], [10.5, 7, 7], [12.5, 7, 7]]


def test_patch_memory_by_brute_force(monkeypatch):
    features = normal_grids()
    learnt, judged = np.arange(8), np.arange(40, 60)
    monkeypatch.setattr(judging_peers, "MEMORY", 8 * 9)  # all of them
    (memory,) = features.blocks(learnt, 1, neighbours=True)
    queries = np.concatenate(list(features.blocks(judged, 1, neighbours=True)))
    apart = np.linalg.norm(queries[:, :, None] - memory.reshape(-1, memory.shape[2]), axis=3)
    scores = judging_peers.patch_memory(features, learnt, judged, np.random.default_rng(0))
    np.testing.assert_allclose(scores, apart.min(axis=2).max(axis=1), rtol=1e-3)


def test_the_coreset_covers_all_patches_better_than_a_random_choice():
    rng = np.random.default_rng(0)
    patches = np.concatenate([rng.normal(size=(990, 20)), 20 + rng.normal(size=(10, 20))]).astype(np.float32)

    def radius(kept):
        return np.linalg.norm(patches[:, None] - kept, axis=2).min(axis=1).max()

    chosen = judging_peers.coreset(patches, 30, rng)
    assert len(np.unique(chosen, axis=0)) == 30
    assert all((patches == each).all(axis=1).any() for each in chosen)
    assert radius(chosen) < min(radius(rng.permutation(patches)[:30]) for _ in range(20))
    np.testing.assert_array_equal(judging_peers.coreset(patches[:30], 30, rng), patches[:30])


def test_a_gaussian_a_place_by_hand(monkeypatch):
    features = normal_grids()
    learnt, judged = np.arange(40), np.arange(40, 60)
    rows = np.concatenate(list(features.blocks(np.arange(60), 0))).astype(np.float64)
    expected = np.zeros(20)
    for place in range(36):
        covariance = np.cov(rows[learnt, place].T)
        covariance += judging_peers.RIDGE * covariance.trace() / 20 * np.eye(20)
        apart = rows[judged, place] - rows[learnt, place].mean(axis=0)
        distances = np.sqrt(np.einsum("nd,de,ne->n", apart, np.linalg.inv(covariance), apart))
        expected = np.maximum(expected, distances)
    scores = judging_peers.gaussian_a_place(features, learnt, judged, np.random.default_rng(0))
    np.testing.assert_allclose(scores, expected, rtol=1e-3)


def test_a_patch_inside_the_subspace_leaves_no_residual_and_one_outside_does():
    rng = np.random.default_rng(0)
    inside = rng.normal(size=(20, 4, 4, 2)) @ rng.normal(size=(2, 6))
    off = np.array([1.0, -1, 0, 0, 0, 0])
    outside = inside[:5] + off * 3
    photographs = np.concatenate([inside, outside])
    features = Grids(photographs[..., :3], photographs[..., 3:])
    scores = judging_peers.patch_subspace(features, np.arange(15), np.arange(15, 25), rng)
    assert scores[:5].max() < 0.2 < 1 < scores[5:].min()


def test_the_mt_distance_is_scikit_learns_of_the_middle_layer():
    features = normal_grids()
    means = features.grids[1].astype(np.float64).mean(axis=(1, 2))
    expected = LedoitWolf().fit(means[:30]).mahalanobis(means[30:])
    scores = judging_peers.mt_distance(features, np.arange(30), np.arange(30, 60), np.random.default_rng(0))
    np.testing.assert_allclose(scores**2, expected, rtol=1e-2)


def test_the_two_ways_to_name_photographs(surfaces, tmp_path):
    inside = judging_peers.read_photo_set(str(surfaces))
    assert (~inside.ng).sum() == 70
    assert inside.ng.sum() == 6
    assert not inside.notes
    pair = judging_peers.read_photo_set(f"{surfaces}/ok:{surfaces}/ng/crack,{surfaces}/ng/stain")
    around = judging_peers.read_photo_set(f"{surfaces}/ok:{surfaces}")
    for other in (pair, around):
        assert other.paths == inside.paths
        assert other.ng.tolist() == inside.ng.tolist()
    with pytest.raises(InputError, match="OK_DIR:NG_DIR"):
        judging_peers.read_photo_set(str(tmp_path / "nowhere"))


def test_copies_and_unreadable_files_are_left_out_and_counted(tmp_path):
    for place, numbers in {"ok": (1, 2, 3, 3), "ng": (4, 3)}.items():
        (tmp_path / place).mkdir()
        for row, number in enumerate(numbers):
            Image.fromarray(np.full((20, 20), number, np.uint8)).save(tmp_path / place / f"{row}.png")
    (tmp_path / "ok" / "broken.png").write_bytes(b"no photograph")
    found = judging_peers.read_photo_set(str(tmp_path))
    assert found.ng.tolist() == [False, False, False, True]
    assert found.notes == [
        "1 files left out, which cannot be read",
        "2 files left out, which are copies of others",
    ]


def test_depths_give_the_hidden_states_named_for_mobilenet(net, surfaces):
    paths = judging_peers.read_photo_set(str(surfaces)).paths[:3]
    features = judging_peers.BackboneFeatures(Backbone.load(net), paths)
    assert features.layers == [6, 12, 18]
    assert all(len(grids) == 3 and grids.dtype == np.float16 for grids in features.grids)
    larger = judging_peers.BackboneFeatures(Backbone.load(net), paths, size=128)
    assert larger.grids[0].shape[1:3] == tuple(2 * side for side in features.grids[0].shape[1:3])


def test_a_transformer_gives_the_peers_its_layers_too(surfaces, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2Config(
        hidden_size=24, num_hidden_layers=8, num_attention_heads=2, image_size=32, patch_size=8, mlp_ratio=2
    )
    transformers.Dinov2Model(config).save_pretrained(tmp_path)
    settings = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    paths = judging_peers.read_photo_set(str(surfaces)).paths[:24]
    features = judging_peers.BackboneFeatures(Backbone.load(f"hf:{tmp_path}"), paths)
    assert features.layers == [2, 4, 6]
    assert [grids.shape for grids in features.grids] == [(24, 4, 4, 24)] * 3
    for peer in judging_peers.PEERS.values():
        scores = peer(features, np.arange(16), np.arange(16, 24), np.random.default_rng(0))
        assert np.isfinite(scores).all()
        assert scores.std() > 0


def test_the_command_compares_prints_and_keeps_every_detector(net, surfaces, tmp_path, monkeypatch, capsys):
    for module in (measuring, bench):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(judging_peers, "SEEDS", 2)
    words = ["judging_peers", str(surfaces), "--encoder", net, "--few", "40", "21", "9"]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *words])
    bench.main()
    text = capsys.readouterr().out
    kept = json.loads((tmp_path / "judging_peers.json").read_text())["comparisons"]
    assert [each["learnt_from"] for each in kept] == [40, 21, 9]
    for each in kept:
        for peer in judging_peers.PEERS:
            assert len(each["detectors"][peer]["auroc"]) == 2
    ours = kept[0]["detectors"]["ours, backbone"]
    best = kept[0]["detectors"][kept[0]["best_peer"]]["auroc"]
    np.testing.assert_allclose(ours["ahead"], np.subtract(ours["auroc"], best))
    assert all(0 <= rate <= 1 for rate in ours["missed"] + ours["false_rejects"])
    assert f"{np.mean(ours['auroc']):.4f} ± {np.std(ours['auroc']):.4f}" in text
    assert len(kept[1]["detectors"]["ours, filters"]["missed"]) == 2  # by CV+
    # Nine cannot hold 5 %, and that is said in place of a figure.
    assert "OK parts" in kept[2]["detectors"]["ours, backbone"]["refused"]
    assert "refused: " in text
    (row,) = [line for line in text.splitlines() if line.startswith("| 17b ")]
    assert "refused" in row
    assert row.rstrip("| ").endswith("no")


def test_generated_parts_are_judged_beside_folders_or_in_their_place(net, surfaces, monkeypatch, capsys):
    def write_few(folder, kind):
        write_parts(folder, kind, ok=24, ng=4, size=(96, 96))

    monkeypatch.setattr(judging_peers, "write_parts", write_few)
    monkeypatch.setattr(judging_peers, "SEEDS", 1)
    found = judging_peers.main([str(surfaces), "--generated", "fabric", "--encoder", net, "--few", "22"])
    assert [each["folder"] for each in found["comparisons"]] == [str(surfaces), "generated fabric"]
    assert (found["comparisons"][1]["ok"], found["comparisons"][1]["ng"]) == (24, 4)
    assert "generated fabric: 22 of 24 OK learnt from, 4 NG" in capsys.readouterr().out
    names = [name for name, _ in judging_peers.photo_sets([], ["boards", "fabric"])]
    assert names == ["generated boards", "generated fabric"]
    with pytest.raises(SystemExit, match="plates"):
        judging_peers.main([str(surfaces), "--generated", "plates", "--encoder", net])
