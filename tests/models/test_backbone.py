"""Backbones against plain calls of the library: tiny random models made here, and real weights where there are some."""

import json
import os
import pickle
import sqlite3
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from mekiki import Embedder, cli
from mekiki.errors import DataWarning, InputError, MissingExtraError
from mekiki.models.backbone import Backbone
from mekiki.models.feature_cache import FeatureCache, feature_cache_bytes
from mekiki.models.hidden_states import HiddenStates
from mekiki.models.preprocessing import Preparation
from mekiki.models.pretrained_folder import backbone_input_size, split_name

transformers = pytest.importorskip("transformers")

SIDE = 32
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
SETTINGS = {
    "do_resize": True,
    "size": {"height": SIDE, "width": SIDE},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": MEAN,
    "image_std": STD,
}
SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": SIDE,
    "patch_size": 8,
}


def _model(kind):
    tf = transformers
    if kind == "vit":
        return tf.ViTModel(tf.ViTConfig(**SMALL), add_pooling_layer=False)
    if kind == "dinov2":
        return tf.Dinov2Model(tf.Dinov2Config(**SMALL, mlp_ratio=2))
    if kind == "registers":
        return tf.Dinov2WithRegistersModel(
            tf.Dinov2WithRegistersConfig(**SMALL, mlp_ratio=2, num_register_tokens=3)
        )
    if kind == "swin":
        return tf.SwinModel(
            tf.SwinConfig(
                image_size=SIDE, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4
            )
        )
    if kind == "resnet":
        return tf.ResNetModel(
            tf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], layer_type="basic")
        )
    if kind == "convnext":
        return tf.ConvNextModel(tf.ConvNextConfig(hidden_sizes=[8, 16, 16, 24], depths=[1, 1, 1, 1]))
    if kind == "clip":
        vision = {**SMALL}
        return tf.CLIPModel(
            tf.CLIPConfig(
                text_config={
                    "hidden_size": 8,
                    "intermediate_size": 8,
                    "num_hidden_layers": 1,
                    "vocab_size": 20,
                },
                vision_config=vision,
            )
        )
    return tf.MobileNetV1Model(tf.MobileNetV1Config(depth_multiplier=0.25, image_size=SIDE))


KINDS = ("mobilenet", "resnet", "convnext", "vit", "dinov2", "registers", "swin", "clip")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """The folder of a tiny random model by its kind, made once."""
    made = {}

    def folder(kind):
        if kind not in made:
            torch.manual_seed(0)
            model = _model(kind)
            # Running statistics as after training: as they are made, batch normalisation would do nothing.
            for module in model.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.running_mean.normal_(0, 0.1)
                    module.running_var.uniform_(0.5, 1.5)
            made[kind] = tmp_path_factory.mktemp(kind)
            model.save_pretrained(made[kind])
            (made[kind] / "preprocessor_config.json").write_text(json.dumps(SETTINGS))
        return made[kind]

    return folder


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MEKIKI_CACHE", str(tmp_path / "cache"))


def iter_photos(n=3, height=40, width=52, colour=True, seed=0):
    shape = (n, height, width, 3) if colour else (n, height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def by_hand(image, size=(SIDE, SIDE)):
    """Pixels as a person would prepare them: Pillow, then one formula in float64."""
    coloured = Image.fromarray(image).convert("RGB").resize((size[1], size[0]), Image.Resampling.BILINEAR)
    values = (np.asarray(coloured, np.float64) / 255 - MEAN) / STD
    return torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)[None]


def plain_states(folder, prepared, **options):
    """Hidden states by a plain call of the library, without anything of ours."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    model = getattr(model, "vision_model", model)
    with torch.no_grad():
        return model(prepared.contiguous(), output_hidden_states=True, **options).hidden_states


def plain_grid(kind, state):
    """`[1, C, h, w]` or `[1, T, C]` as `[h, w, d]`, with the special tokens this kind is documented to have."""
    if state.ndim == 4:
        return state[0].permute(1, 2, 0).numpy()
    special = {"vit": 1, "dinov2": 1, "registers": 4, "clip": 1, "swin": 0}[kind]
    places = state[0, special:]
    side = round(len(places) ** 0.5)
    return places.reshape(side, side, -1).numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_equals_a_plain_call_with_hand_made_preprocessing(model_folder, kind):
    backbone = Backbone.load(f"hf:{model_folder(kind)}")
    image = iter_photos(1)[0]
    states = plain_states(model_folder(kind), by_hand(image))
    assert backbone.layers == len(states)
    seen = next(backbone.extract([image], range(backbone.layers)))
    for number, state in enumerate(states):
        wanted = plain_grid(kind, state)
        assert seen.patches[number].shape == (1, *wanted.shape)
        np.testing.assert_allclose(seen.patches[number][0], wanted, atol=1e-5)
        np.testing.assert_allclose(seen.vectors(number)[0], wanted.mean((0, 1)), atol=1e-5)
        assert backbone.dims[number] == wanted.shape[2]


@pytest.mark.parametrize("kind", KINDS)
def test_the_pass_ends_behind_the_last_layer_asked_for(model_folder, kind):
    backbone = Backbone.load(f"hf:{model_folder(kind)}")
    ran = []
    for name, module in backbone.model.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    backbone.vectors(iter_photos(1), 1)
    early = len(ran)
    ran.clear()
    backbone.vectors(iter_photos(1), -1)
    assert early < 0.8 * len(ran)


@pytest.mark.parametrize("kind", ["mobilenet", "registers"])
def test_several_layers_at_once_equal_one_at_a_time(model_folder, kind):
    backbone = Backbone.load(f"hf:{model_folder(kind)}")
    images = iter_photos(4)
    together = list(backbone.extract(images, [2, 0, -1]))
    for number in (2, 0, backbone.layers - 1):
        alone = backbone.vectors(images, number)
        assert np.array_equal(np.concatenate([seen.vectors(number) for seen in together]), alone)


@pytest.mark.parametrize("kind", ["mobilenet", "resnet", "vit"])
def test_an_image_has_the_same_bits_alone_and_among_others(model_folder, kind):
    backbone = Backbone.load(f"hf:{model_folder(kind)}")
    images = iter_photos(7)
    for batch_size in (None, 4):
        together = backbone.vectors(images, batch_size=batch_size)
        alone = backbone.vectors(images[5:6], batch_size=batch_size)
        assert np.array_equal(together[5:6], alone)


def test_batches_of_several_images_give_the_same_features(model_folder):
    backbone = Backbone.load(f"hf:{model_folder('mobilenet')}")
    images = iter_photos(7)
    one, four = backbone.vectors(images), backbone.vectors(images, batch_size=4)
    np.testing.assert_allclose(one, four, atol=1e-5)
    starts = [(seen.start, len(seen)) for seen in backbone.extract(images, batch_size=4)]
    assert starts == [(0, 4), (4, 3)]


@pytest.mark.parametrize("kind", ["mobilenet", "vit", "dinov2", "swin"])
def test_images_of_unequal_sizes_at_their_own_size(model_folder, kind):
    backbone = Backbone.load(f"hf:{model_folder(kind)}")
    tall, wide = iter_photos(1, 64, 32)[0], iter_photos(1, 32, 48)[0]
    seen = list(backbone.extract([tall, wide, wide], [1], size="native", batch_size=2))
    assert [(block.start, len(block)) for block in seen] == [(0, 1), (1, 2)]
    for block, image in zip(seen, (tall, wide), strict=True):
        height, width = block.patches[1].shape[1:3]
        assert height / width == image.shape[0] / image.shape[1]
    np.testing.assert_array_equal(seen[1].patches[1][0], seen[1].patches[1][1])
    assert np.isfinite(seen[0].patches[1]).all()


def test_a_transformer_at_another_size_equals_a_plain_call_with_interpolated_positions(model_folder):
    backbone = Backbone.load(f"hf:{model_folder('vit')}")
    image = iter_photos(1, 64, 64)[0]
    state = plain_states(model_folder("vit"), by_hand(image, (64, 64)), interpolate_pos_encoding=True)[2]
    patches, grid = backbone.patches([image], 2, size=(64, 64))
    assert grid == (8, 8)
    np.testing.assert_allclose(patches, state[0, 1:].numpy(), atol=1e-5)
    # A size that is no whole number of patches of 8 goes to the nearest one that is.
    assert backbone.target((61, 36), 1, 1) == (64, 32)
    assert backbone.target("native", 70, 3) == (72, 8)


def test_grey_is_rgb_of_equal_channels(model_folder):
    backbone = Backbone.load(f"hf:{model_folder('resnet')}")
    grey = iter_photos(3, colour=False)
    colour = np.repeat(grey[..., None], 3, axis=3)
    assert np.array_equal(backbone.vectors(grey), backbone.vectors(colour))
    mixed = backbone.vectors([grey[0], colour[1], grey[2][..., None]])
    assert np.array_equal(mixed, backbone.vectors(grey))


def test_channels_are_told_apart_and_flipped_where_the_settings_say_so(model_folder, tmp_path):
    backbone = Backbone.load(f"hf:{model_folder('resnet')}")
    images = iter_photos(2)
    assert not np.allclose(backbone.vectors(images), backbone.vectors(images[..., ::-1]), atol=1e-4)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"size": 8, "do_normalize": False, "do_flip_channel_order": True})
    )
    prepare = Preparation.read(tmp_path, {})
    pixel = np.zeros((1, 1, 3), np.uint8)
    pixel[..., 0] = 255
    assert prepare(pixel, (1, 1)).flatten().tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        (
            {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": {"height": 32, "width": 24}},
            (32, 24),
        ),
        ({"size": {"shortest_edge": 40}, "do_center_crop": False, "crop_size": 32}, (40, 40)),
        ({"size": 20}, (20, 20)),
        ({"image_processor": {"size": {"height": 18, "width": 16}}}, (18, 16)),
        ({}, (56, 56)),
    ],
)
def test_the_input_size_is_read_from_all_ways_of_saying_it(tmp_path, settings, size):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    assert Preparation.read(tmp_path, {"image_size": 56}).size == size


def test_preparing_a_batch_for_training_equals_one_image_at_a_time(model_folder):
    prepare = Preparation.read(model_folder("vit"), {})
    images = iter_photos(3)
    batch = prepare.batch(torch.from_numpy(images), (SIDE, SIDE))
    alone = torch.stack([prepare(image, (SIDE, SIDE)) for image in images])
    # Pillow rounds to whole grey levels after resizing, and once between its two directions.
    assert (batch - alone).abs().max() < 1.5 / 255 / min(STD)
    same = prepare.batch(torch.from_numpy(images), (40, 52))
    assert torch.equal(same, torch.stack([prepare(image, (40, 52)) for image in images]))


def test_the_whole_image_is_squeezed_and_nothing_is_cut_away(model_folder):
    backbone = Backbone.load(f"hf:{model_folder('resnet')}")
    image = np.zeros((40, 120), np.uint8)
    edge = image.copy()
    edge[:, :10] = 255
    assert not np.allclose(backbone.vectors([image]), backbone.vectors([edge]), atol=1e-3)


def test_pooling_by_hand(model_folder):
    backbone = Backbone.load(f"hf:{model_folder('resnet')}")
    images = iter_photos(2)
    patches, (height, width) = backbone.patches(images, 1)
    grids = patches.reshape(2, height * width, -1).astype(np.float64)
    np.testing.assert_allclose(backbone.vectors(images, 1), grids.mean(1), atol=1e-6)


def test_input_that_cannot_be_used_is_one_line(model_folder):
    backbone = Backbone.load(f"hf:{model_folder('vit')}")
    for call, said in (
        (lambda: backbone.vectors(iter_photos(2).astype(np.float32)), "image 0: float32"),
        (lambda: backbone.vectors([iter_photos(1)[0], np.zeros((4, 4, 2), np.uint8)]), "image 1: uint8"),
        (lambda: backbone.vectors(np.zeros((5, 5), np.uint8)), r"\[N, H, W\]"),
        (lambda: backbone.vectors(iter_photos(1), 4), "layers 0 … 3"),
        (lambda: backbone.vectors(iter_photos(1), size="whole"), "size must be"),
        (lambda: backbone.vectors(iter_photos(1), size=0), "size must be"),
        (lambda: backbone.vectors(iter_photos(1), batch_size=0), "batch_size"),
        (lambda: list(backbone.extract(iter_photos(1), [])), "layers is empty"),
        (
            lambda: backbone.patches([iter_photos(1, 64, 32)[0], iter_photos(1)[0]], size="native"),
            "several sizes",
        ),
        (lambda: backbone.patches([]), "0 were given"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert backbone.vectors([]).shape == (0, 24)
    assert backbone.vectors([], cached=True).shape == (0, 24)


def test_two_threads_may_look_at_once(model_folder):
    backbone = Backbone.load(f"hf:{model_folder('mobilenet')}")
    images = iter_photos(12)
    wanted = {layer: backbone.vectors(images, layer) for layer in (3, 20)}
    found = {}

    def look(layer):
        found[layer] = backbone.vectors(images, layer)

    threads = [threading.Thread(target=look, args=(layer,)) for layer in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[layer], wanted[layer]) for layer in wanted)


def test_a_pickled_backbone_sees_the_same(model_folder):
    backbone = Backbone.load(f"hf:{model_folder('dinov2')}#1")
    again = pickle.loads(pickle.dumps(backbone))
    assert np.array_equal(again.vectors(iter_photos()), backbone.vectors(iter_photos()))
    assert (again.fingerprint, again.default_layer) == (backbone.fingerprint, 1)


def test_a_saved_backbone_is_loaded_to_the_bit(model_folder, tmp_path):
    backbone = Backbone.load(f"hf:{model_folder('mobilenet')}")
    (tmp_path / "copy").mkdir()
    backbone.save(tmp_path / "copy")
    again = Backbone.load(tmp_path / "copy")
    assert np.array_equal(again.vectors(iter_photos()), backbone.vectors(iter_photos()))
    assert oct((tmp_path / "copy" / "model.safetensors").stat().st_mode & 0o444) == oct(
        (tmp_path / "copy" / "config.json").stat().st_mode & 0o444
    )


def test_names_layers_and_the_fingerprint(model_folder, tmp_path):
    folder = model_folder("mobilenet")
    assert Backbone.load(folder).default_layer == 12
    assert Backbone.load(f"hf:{folder}#-1").default_layer == 25
    with pytest.raises(InputError, match=r"layers 0 … 25 \(its hidden states\), and 26"):
        Backbone.load(f"hf:{folder}#26")
    assert backbone_input_size(f"hf:{folder}#3") == (SIDE, SIDE)
    odd = tmp_path / "odd#3"
    odd.mkdir()
    assert split_name(f"hf:{odd}") == (str(odd), None)
    with pytest.raises(InputError, match="names no model"):
        split_name("hf:")
    for file in folder.iterdir():
        (odd / file.name).write_bytes(file.read_bytes())
    assert Backbone.load(odd).fingerprint == Backbone.load(folder).fingerprint
    settings = SETTINGS | {"image_mean": [0.4, 0.5, 0.61]}
    (odd / "preprocessor_config.json").write_text(json.dumps(settings))
    assert Backbone.load(odd).fingerprint != Backbone.load(folder).fingerprint


def test_loading_leaves_the_random_state_and_the_logging_as_they_were(model_folder, capfd):
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    before = transformers.utils.logging.get_verbosity()
    Backbone.load(model_folder("clip"))
    assert torch.rand(1) == wanted
    assert transformers.utils.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")


# ---- what cannot be loaded -------------------------------------------------------------------------------------------


def copied(folder, to):
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def test_folders_that_hold_no_usable_model_are_one_line(model_folder, tmp_path):
    whole = model_folder("vit")

    def without(name, **files):
        broken = copied(whole, tmp_path / f"broken{len(list(tmp_path.iterdir()))}")
        (broken / name).unlink()
        for other, text in files.items():
            (broken / f"{other}.json").write_text(text)
        return broken

    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    pickled = without("model.safetensors")
    torch.save({}, pickled / "pytorch_model.bin")
    short = without("preprocessor_config.json", preprocessor_config=json.dumps(SETTINGS))
    weights = (short / "model.safetensors").read_bytes()
    (short / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    other = copied(model_folder("resnet"), tmp_path / "other")
    (other / "config.json").write_bytes((model_folder("mobilenet") / "config.json").read_bytes())
    words = tmp_path / "words"
    bert = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    transformers.BertModel(bert).save_pretrained(words)
    (words / "preprocessor_config.json").write_text("{}")
    code = without(
        "config.json", config=json.dumps({"model_type": "evil", "auto_map": {"AutoModel": "evil.Evil"}})
    )
    (code / "evil.py").write_text("raise SystemExit('code was run')")
    for folder, said in (
        (tmp_path / "nowhere", "no such folder"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "empty", "config.json is missing"),
        (without("preprocessor_config.json"), "preprocessor_config.json is missing, which says how pixels"),
        (
            without("preprocessor_config.json", preprocessor_config="{"),
            "preprocessor_config.json: cannot be used",
        ),
        (
            without("preprocessor_config.json", preprocessor_config='{"image_mean": [1]}'),
            "image_std' is missing",
        ),
        (without("config.json", config="{}"), "no model_type"),
        (without("config.json", config="nonsense"), "config.json: cannot be read"),
        (pickled, "no weights as safetensors"),
        (short, "cannot be loaded"),
        (other, "do not fit its configuration"),
        (words, "no encoder of images"),
        (code, "cannot be loaded"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            Backbone.load(f"hf:{folder}")
        assert "\n" not in str(caught.value), folder


def test_without_the_extra_the_error_names_it(monkeypatch, model_folder):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mekiki\[backbones\]'"):
        Backbone.load(model_folder("vit"))


def test_a_model_in_the_cache_of_the_hub_is_found_without_the_internet(model_folder, tmp_path, monkeypatch):
    repo = tmp_path / "hub" / "models--somebody--tiny"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("a" * 40)
    (repo / "snapshots").mkdir()
    copied(model_folder("vit"), repo / "snapshots" / ("a" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    backbone = Backbone.load("hf:somebody/tiny#1")
    assert (backbone.place, backbone.default_layer) == ("somebody/tiny", 1)
    assert backbone.fingerprint == Backbone.load(model_folder("vit")).fingerprint


# ---- features kept on disk -------------------------------------------------------------------------------------------


def counted(backbone, monkeypatch):
    """A list that grows by one with each pass through the network."""
    passes = []
    real = backbone.hidden_states.grids
    monkeypatch.setattr(backbone.hidden_states, "grids", lambda *given: passes.append(1) or real(*given))
    return passes


def test_kept_features_are_the_same_bits_and_cost_no_pass(model_folder, monkeypatch):
    backbone = Backbone.load(model_folder("mobilenet"))
    images = iter_photos(70)
    images[69] = images[3]  # a copy need not be seen twice
    uncached = backbone.vectors(images)
    passes = counted(backbone, monkeypatch)
    first = backbone.vectors(images, cached=True)
    assert len(passes) == 69 or len(passes) == 70
    seen = len(passes)
    second = backbone.vectors(images[::-1], cached=True)
    assert len(passes) == seen, "nothing may go through the network again"
    assert np.array_equal(first, uncached)
    assert np.array_equal(second[::-1], uncached)
    assert feature_cache_bytes() > first.nbytes


@pytest.mark.parametrize("other", [{"layer": 3}, {"size": 64}, {"batch_size": 2}, {"size": "native"}])
def test_features_made_another_way_are_kept_apart(model_folder, monkeypatch, other):
    backbone = Backbone.load(model_folder("mobilenet"))
    images = iter_photos(2)
    backbone.vectors(images, cached=True)
    passes = counted(backbone, monkeypatch)
    again = backbone.vectors(images, cached=True, **other)
    assert passes
    assert np.array_equal(again, backbone.vectors(images, **other))


def test_another_backbone_and_another_shape_of_the_same_pixels_are_kept_apart(model_folder, monkeypatch):
    square, flat = iter_photos(1, 32, 32), iter_photos(1, 32, 32).reshape(1, 16, 64, 3)
    for kind in ("vit", "dinov2"):
        backbone = Backbone.load(model_folder(kind))
        for images in (square, flat):
            assert np.array_equal(backbone.vectors(images, cached=True), backbone.vectors(images))


def test_a_broken_file_is_said_and_made_anew(model_folder, tmp_path, monkeypatch):
    backbone = Backbone.load(model_folder("mobilenet"))
    images = iter_photos(5)
    wanted = backbone.vectors(images, cached=True)
    (file,) = (tmp_path / "cache" / "features").glob("*.sqlite")
    whole = file.read_bytes()
    for damage in (b"no database at all" * 500, whole[: len(whole) // 2], b"\xff" * len(whole)):
        file.write_bytes(damage)
        with pytest.warns(DataWarning, match="damaged"):
            again = backbone.vectors(images, cached=True)
        assert np.array_equal(again, wanted)
        passes = counted(backbone, monkeypatch)
        assert np.array_equal(backbone.vectors(images, cached=True), wanted)
        assert not passes, "what was made anew is kept"
        monkeypatch.undo()
        monkeypatch.setenv("MEKIKI_CACHE", str(tmp_path / "cache"))


def test_a_single_damaged_vector_is_noticed(model_folder, tmp_path, monkeypatch):
    backbone = Backbone.load(model_folder("mobilenet"))
    images = iter_photos(5)
    wanted = backbone.vectors(images, cached=True)
    (file,) = (tmp_path / "cache" / "features").glob("*.sqlite")
    with sqlite3.connect(file) as connection:
        content, vector = connection.execute("SELECT content, vector FROM vectors LIMIT 1").fetchone()
        flipped = bytes([vector[0] ^ 1]) + vector[1:]
        connection.execute("UPDATE vectors SET vector = ? WHERE content = ?", (flipped, content))
    connection.close()
    passes = counted(backbone, monkeypatch)
    with pytest.warns(DataWarning, match="1 cached features are damaged"):
        assert np.array_equal(backbone.vectors(images, cached=True), wanted)
    assert len(passes) == 1


def test_a_cache_that_cannot_be_written_is_said_and_done_without(model_folder, tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("a file, not a folder")
    monkeypatch.setenv("MEKIKI_CACHE", str(tmp_path / "taken"))
    backbone = Backbone.load(model_folder("mobilenet"))
    images = iter_photos(3)
    with pytest.warns(DataWarning, match="cannot be kept there"):
        kept = backbone.vectors(images, cached=True)
    assert np.array_equal(kept, backbone.vectors(images))


@pytest.mark.slow
def test_two_processes_may_write_at_once(tmp_path):
    program = """
import sys
import numpy as np
from mekiki.models.feature_cache import FeatureCache

first = int(sys.argv[1])
with FeatureCache("shared") as store:
    for i in range(first, first + 150):
        store.write({b"%d" % i: np.full(50, i, np.float32), b"both": np.full(50, -1, np.float32)})
        assert store.read([b"%d" % i])[b"%d" % i][0] == i
"""
    processes = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", program, str(first)], stderr=subprocess.PIPE)
        for first in (0, 100)
    ]
    for running in processes:
        _, said = running.communicate(timeout=100)
        assert running.returncode == 0, said.decode()
    with FeatureCache("shared") as store:
        found = store.read([b"%d" % i for i in range(250)] + [b"both"])
    assert len(found) == 251
    assert all(found[b"%d" % i].tolist() == [i] * 50 for i in range(250))


# ---- as the encoder of an Embedder -----------------------------------------------------------------------------------


def stripes(n=40, side=36, seed=0):
    """Photographs of two kinds, upright and level stripes, at random places and brightness."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = np.empty((n, side, side), np.uint8)
    for image, label in zip(images, labels, strict=True):
        wave = 90 * np.sin(np.arange(side) / 2 + rng.uniform(0, 6)) + rng.uniform(100, 150)
        image[:] = (wave[:, None] if label else wave[None]) + rng.normal(0, 5, (side, side))
    return images, labels


@pytest.fixture
def encoder(model_folder):
    return f"hf:{model_folder('resnet')}#1"


def test_a_head_on_frozen_features_learns_and_leaves_the_backbone_as_it_is(encoder):
    images, labels = stripes()
    embedder = Embedder(encoder=encoder, dim=3, epochs=6, batch_size=16).fit(images, labels)
    assert embedder.transform(images).shape == (40, 3)
    assert embedder.score(*stripes(seed=1)) == 1.0
    fresh = Backbone.load(encoder)
    assert np.array_equal(
        embedder.backbone_.vectors(images, size="native"), fresh.vectors(images, size="native")
    )
    assert embedder.encoder_[0].input_shape == (fresh.dims[1],)


def test_the_features_of_a_training_are_taken_once(encoder, monkeypatch):
    images, labels = stripes()
    seen = []
    real = HiddenStates.grids
    monkeypatch.setattr(
        HiddenStates, "grids", lambda self, batch, layers: seen.append(1) or real(self, batch, layers)
    )
    embedder = Embedder(encoder=encoder, epochs=2, batch_size=16)
    embedder.fit(images, labels, validation=stripes(10, seed=1))
    assert len(seen) == 50
    embedder.transform(images)
    Embedder(encoder=encoder, epochs=2, loss="triplet", batch_size=16).fit(images, labels)
    assert len(seen) == 50


def test_one_image_gets_the_same_vector_alone_and_among_others(encoder):
    images, labels = stripes()
    embedder = Embedder(encoder=encoder, epochs=1, batch_size=16).fit(images, labels)
    assert np.array_equal(embedder.transform(images)[7:8], embedder.transform(images[7:8]))


@pytest.mark.parametrize("fine_tune", [False, True])
def test_saved_and_loaded_it_gives_the_same_bits(encoder, tmp_path, fine_tune):
    images, labels = stripes()
    embedder = Embedder(encoder=encoder, fine_tune=fine_tune, epochs=2, batch_size=16).fit(images, labels)
    embedder.save(tmp_path / "eye")
    wanted = embedder.transform(images)
    again = Embedder.load(tmp_path / "eye")
    assert np.array_equal(again.transform(images), wanted)
    assert again.get_params() == embedder.get_params()
    again.save(tmp_path / "eye")  # in place of itself
    assert np.array_equal(Embedder.load(tmp_path / "eye").transform(images), wanted)
    assert np.array_equal(pickle.loads(pickle.dumps(embedder)).transform(images), wanted)
    kept = json.loads((tmp_path / "eye" / "config.json").read_text())["backbone"]
    assert kept["source"] == encoder.removeprefix("hf:").removesuffix("#1")
    assert (kept["layer"], kept["fine_tuned"]) == (1, fine_tune)
    carried = tmp_path / "eye" / "backbone"
    assert carried.is_dir() == fine_tune
    if fine_tune:
        assert {"config.json", "model.safetensors"} <= {file.name for file in carried.iterdir()}
        # What was carried along is a backbone like any other.
        assert not np.array_equal(
            Backbone.load(carried).vectors(images, 1), Backbone.load(encoder).vectors(images, 1)
        )


def test_clones_learn_the_same(encoder):
    from sklearn.base import clone

    images, labels = stripes()
    embedder = Embedder(encoder=encoder, fine_tune=True, epochs=1, batch_size=16).fit(images, labels)
    assert np.array_equal(clone(embedder).fit(images, labels).transform(images), embedder.transform(images))


def test_fine_tuning_moves_the_layers_before_the_one_taken_and_only_those(encoder):
    images, labels = stripes()
    embedder = Embedder(encoder=encoder, fine_tune=True, epochs=3, batch_size=16).fit(images, labels)
    before, after = Backbone.load(encoder).model.state_dict(), embedder.backbone_.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("embedder.") for name in moved)
    assert any(name.startswith("encoder.stages.0.") for name in moved)
    assert not any(name.startswith("encoder.stages.1.") for name in moved)
    assert not any("running" in name for name in moved), "statistics of batch normalisation stay"
    assert embedder.history_["lr"][0] == pytest.approx(1e-4)
    assert embedder.score(*stripes(seed=1)) == 1.0


def test_a_fine_tuning_that_was_stopped_goes_on_to_the_bit(encoder, tmp_path):
    images, labels = stripes()
    settings = {"encoder": encoder, "fine_tune": True, "batch_size": 16}
    whole = Embedder(**settings, epochs=3).fit(images, labels)
    file = tmp_path / "checkpoint.safetensors"
    Embedder(**settings, epochs=1).fit(images, labels, checkpoint=file)
    resumed = Embedder(**settings, epochs=3).fit(images, labels, checkpoint=file, resume=True)
    assert np.array_equal(resumed.transform(images), whole.transform(images))


def test_a_backbone_that_was_changed_or_taken_away_is_refused(model_folder, tmp_path):
    folder = copied(model_folder("vit"), tmp_path / "weights")
    images, labels = stripes()
    embedder = Embedder(encoder=f"hf:{folder}", epochs=1, batch_size=16).fit(images, labels)
    tuned = Embedder(encoder=f"hf:{folder}", fine_tune=True, epochs=1, batch_size=16).fit(images, labels)
    embedder.save(tmp_path / "frozen")
    tuned.save(tmp_path / "tuned")
    other, damaged = "is not the one it was trained with", "is damaged"
    for place, run, said in ((folder, "frozen", other), (tmp_path / "tuned" / "backbone", "tuned", damaged)):
        weights = bytearray((place / "model.safetensors").read_bytes())
        weights[-1] ^= 1
        (place / "model.safetensors").write_bytes(weights)
        with pytest.raises(InputError, match=said) as caught:
            Embedder.load(tmp_path / run)
        assert "\n" not in str(caught.value)
        weights[-1] ^= 1
        (place / "model.safetensors").write_bytes(weights)
        Embedder.load(tmp_path / run)
    folder.rename(tmp_path / "moved")
    with pytest.raises(InputError, match=r"cannot be loaded: .*no such folder") as caught:
        Embedder.load(tmp_path / "frozen")
    assert "\n" not in str(caught.value)
    Embedder.load(tmp_path / "tuned")  # carries its own


def test_a_checkpoint_made_with_another_backbone_is_not_gone_on_with(model_folder, tmp_path):
    images, labels = stripes()
    folder = copied(model_folder("vit"), tmp_path / "weights")
    checkpoint = tmp_path / "checkpoint.safetensors"
    Embedder(encoder=f"hf:{folder}", epochs=1, batch_size=16).fit(images, labels, checkpoint=checkpoint)
    (folder / "preprocessor_config.json").write_text(json.dumps(SETTINGS | {"resample": 3}))
    with pytest.raises(InputError, match="backbone"):
        Embedder(encoder=f"hf:{folder}", epochs=2, batch_size=16).fit(
            images, labels, checkpoint=checkpoint, resume=True
        )


def test_small_photographs_are_enlarged_and_large_ones_seen_as_they_are(encoder, monkeypatch):
    looked = []
    real = HiddenStates.grids

    def spy(self, batch, layers):
        looked.append(tuple(batch.shape[2:]))
        return real(self, batch, layers)

    monkeypatch.setattr(HiddenStates, "grids", spy)
    for side, wanted in ((16, 32), (48, 48)):
        images, labels = stripes(8, side=side)
        Embedder(encoder=encoder, epochs=1, batch_size=4).fit(images, labels)
        assert set(looked) == {(wanted, wanted)}
        looked.clear()


def test_settings_that_cannot_work_together_are_one_line(encoder):
    images, labels = stripes(8)
    for settings, data, said in (
        ({"augment": "surfaces"}, images, r"leave the augmentation out \(--augment none\), or fine-tune"),
        ({"encoder": "conv", "fine_tune": True}, images, "fine_tune goes with an encoder that is pretrained"),
        ({"fine_tune": "yes"}, images, "fine_tune must be true or false"),
        ({"encoder": "hf:"}, images, "names no model"),
        ({"encoder": "vg"}, images, "did you mean vgg"),
        ({}, images.reshape(8, -1), "takes photographs"),
        ({}, images.astype(np.float32), "takes photographs"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            Embedder(**({"encoder": encoder, "epochs": 1} | settings)).fit(data, labels)
        assert "\n" not in str(caught.value)


def test_a_fine_tuning_may_be_augmented(encoder):
    images, labels = stripes()
    settings = {"encoder": encoder, "fine_tune": True, "epochs": 1, "batch_size": 16}
    plain = Embedder(**settings).fit(images, labels)
    changed = Embedder(**settings, augment={"brightness": 0.3}).fit(images, labels)
    assert not np.array_equal(plain.transform(images), changed.transform(images))


# ---- on the command line ---------------------------------------------------------------------------------------------


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Run a command in this process, in the test's own folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["mekiki", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, stopped.value.code, said.out, said.err)

    return run


@pytest.fixture
def photo_folder(tmp_path):
    """A folder of photographs of two kinds and of unequal sizes."""
    rng = np.random.default_rng(0)
    for seed, side in enumerate((30, 44, 57)):
        images, labels = stripes(16, side, seed)
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = tmp_path / "photos" / ("level" if label else "upright") / f"{side}-{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[: side - rng.integers(0, 9)]).save(path)
    return tmp_path / "photos"


def test_the_commands_take_a_backbone_from_training_to_vectors(command, encoder, photo_folder, tmp_path):
    run = tmp_path / "run"
    options = ["--encoder", encoder, "--epochs", 8, "--batch-size", 16, "--out", run]
    trained = command("train", photo_folder, *options, "--json")
    assert trained.returncode == 0, trained.stderr
    metrics = json.loads(trained.stdout)
    assert metrics["encoder"] == encoder
    assert metrics["knn5_accuracy"] > 0.9
    assert "Loading weights" not in trained.stderr
    assert "frozen, hidden state 1 of 0 … 2" in (run / "report.html").read_text()
    # The photographs, of all sizes, came at the size that the network was trained at.
    assert json.loads((run / "config.json").read_text())["input"]["shape"] == [1, SIDE, SIDE]
    embedded = command("embed", run, photo_folder, "-o", tmp_path / "vectors.npz", "--json")
    assert embedded.returncode == 0, embedded.stderr
    assert json.loads(embedded.stdout)["n"] == 48
    measured = command("evaluate", run, "--json")
    assert json.loads(measured.stdout)["knn5_accuracy"] == metrics["knn5_accuracy"]


def test_a_fine_tuned_run_carries_its_network(command, encoder, photo_folder, tmp_path):
    run = tmp_path / "run"
    options = ["--encoder", encoder, "--fine-tune", "--recipe", "best", "--epochs", 2, "--batch-size", 16]
    trained = command("train", photo_folder, *options, "--out", run)
    assert trained.returncode == 0, trained.stderr
    assert (run / "backbone" / "model.safetensors").is_file()
    assert "as it was fine-tuned" in (run / "report.html").read_text()
    before = (run / "backbone" / "model.safetensors").read_bytes()
    again = command("train", photo_folder, *options, "--out", run, "--resume")
    assert again.returncode == 0, again.stderr
    assert (run / "backbone" / "model.safetensors").read_bytes() == before


def said_in_one_line(done, words):
    """Notes about the photographs may come before it."""
    said = [line for line in done.stderr.splitlines() if not line.startswith("note:")]
    assert done.returncode == 2
    assert len(said) == 1, done.stderr
    assert words in said[0]
    assert not done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--encoder", "hf:photos"], "config.json is missing"),
        (["--encoder", "hf:"], "names no model"),
        (["--encoder", "ENCODER", "--recipe", "best"], "--augment none"),
        (["--encoder", "ENCODER", "--augment", "surfaces"], "--augment none"),
        (["--encoder", "vgg", "--fine-tune"], "fine_tune goes with an encoder that is pretrained"),
        (["--encoder", "ENCODER9"], "has layers 0 … 2"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(
    command, encoder, photo_folder, tmp_path, arguments, words
):
    given = [argument.replace("ENCODER", encoder) for argument in arguments]
    said_in_one_line(command("train", photo_folder, *given, "--out", tmp_path / "run"), words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        pytest.param(
            "hf:weights/nowhere/at/all",
            "no such folder; give the folder of a model, or its name on the hub",
            marks=pytest.mark.slow,
        ),
        ("hf:somebody/no-such-model", "connect to the internet and check the name, or give a folder"),
    ],
)
def test_a_missing_folder_and_a_hub_out_of_reach_are_one_line(photo_folder, tmp_path, encoder, words):
    """Real processes, and a real refusal: nothing listens at that address."""
    unreachable = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": str(tmp_path / "hub")}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mekiki",
            "train",
            photo_folder,
            "--encoder",
            encoder,
            "--out",
            tmp_path / "run",
        ],
        env=os.environ | unreachable,
        capture_output=True,
        text=True,
        timeout=200,
    )
    said_in_one_line(done, words)
    assert not (tmp_path / "run").exists()


def test_a_run_whose_backbone_is_gone_says_so_in_one_line(
    command, model_folder, photo_folder, tmp_path, monkeypatch
):
    folder = copied(model_folder("resnet"), tmp_path / "weights")
    run = tmp_path / "run"
    options = ["--encoder", "hf:weights", "--epochs", 1, "--batch-size", 16, "--out", run]
    trained = command("train", "photos", *options)
    assert trained.returncode == 0, trained.stderr
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    fine = command("embed", run, photo_folder, "-o", "a.npz")
    assert fine.returncode == 0, "a relative name is found from wherever the command is given"
    folder.rename(tmp_path / "away")
    gone = command("embed", run, photo_folder, "-o", "b.npz")
    said_in_one_line(gone, "the backbone it was trained with cannot be loaded")


# ---- real weights ----------------------------------------------------------------------------------------------------


@pytest.fixture
def mobilenet(real_data):
    return Backbone.load(real_data / "weights" / "mobilenet_v1_0.75_224")


def test_real_weights_equal_a_plain_call(mobilenet, real_data):
    assert (mobilenet.layers, mobilenet.default_layer, mobilenet.input_size) == (26, 12, (224, 224))
    path = sorted((real_data / "magnetic_tile" / "crack").iterdir())[0]
    image = np.asarray(Image.open(path).convert("L"))
    small = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BILINEAR), np.float64)
    prepared = torch.from_numpy((small / 127.5 - 1).astype(np.float32)).expand(1, 3, 224, 224)
    plain = transformers.AutoModel.from_pretrained(mobilenet.place).eval()
    with torch.no_grad():
        single = plain(prepared.contiguous(), output_hidden_states=True).hidden_states
        double = plain.double()(prepared.double().contiguous(), output_hidden_states=True).hidden_states
    seen = next(mobilenet.extract([image], [6, 12, 18]))
    for layer in (6, 12, 18):
        truth = double[layer][0].permute(1, 2, 0).numpy()
        # In single places float32 is 3e-5 off whoever computes; ours may be no farther off than a plain call is.
        theirs = np.abs(single[layer][0].permute(1, 2, 0).numpy() - truth).max()
        assert np.abs(seen.patches[layer][0] - truth).max() < 2 * theirs
        np.testing.assert_allclose(seen.vectors(layer)[0], truth.mean((0, 1)), rtol=0, atol=1e-5)


def test_real_features_of_the_middle_layer_tell_a_crack_from_a_free_tile(mobilenet, real_data):
    """Nearest class mean on ten tiles a class held out; a coin would reach 50 %."""
    vectors = {}
    for name in ("free", "crack"):
        paths = [p for p in sorted((real_data / "magnetic_tile" / name).iterdir()) if p.suffix == ".jpg"][:20]
        vectors[name] = mobilenet.vectors([np.asarray(Image.open(path).convert("L")) for path in paths])
    free, crack = vectors["free"], vectors["crack"]
    direction = crack[:10].mean(0) - free[:10].mean(0)
    middle = direction @ (crack[:10].mean(0) + free[:10].mean(0)) / 2
    right = [*(crack[10:] @ direction > middle), *(free[10:] @ direction < middle)]
    assert np.mean(right) >= 0.75


def test_a_head_on_real_features_tells_defects_of_tiles_apart(real_data):
    """Five classes of defect, 20 tiles of each to learn from and 10 to be judged; a coin would reach 20 %."""
    images, labels = [], []
    for label, name in enumerate(("blowhole", "uneven", "break", "crack", "fray")):
        for path in [p for p in sorted((real_data / "magnetic_tile" / name).iterdir()) if p.suffix == ".jpg"][
            :30
        ]:
            images.append(
                np.asarray(Image.open(path).convert("L").resize((224, 224), Image.Resampling.BILINEAR))
            )
            labels.append(label)
    pixels, codes = np.stack(images), np.array(labels)
    learnt = np.arange(len(codes)) % 30 < 20
    embedder = Embedder(
        encoder=f"hf:{real_data / 'weights' / 'mobilenet_v1_0.75_224'}",
        loss="online-contrastive",
        dim=16,
        epochs=30,
    )
    embedder.fit(pixels[learnt], codes[learnt])
    assert embedder.score(pixels[~learnt], codes[~learnt]) >= 0.6
