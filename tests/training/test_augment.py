"""Augmentation measured from outside: pictures of the coordinates tell where each pixel came from."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from mekiki.errors import InputError
from mekiki.training.augment import AUGMENTATIONS, Augmentation, augmentation

sides = st.integers(12, 40)
seeds = st.integers(0, 10_000)
shapes = st.sampled_from([(2, 7, 5), (1, 8, 8), (3, 6, 9, 3)])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_images(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=seeded(seed), dtype=torch.uint8)


def sources(change, count, height, width, seed=0):
    """Where each pixel comes from (x, y; float64 `[B, H, W, 2]`), and whether that is inside of the image.

    The three colours of the picture are x, y and 1: bilinear interpolation of a plane is the plane itself.
    """
    y, x = np.mgrid[:height, :width].astype(np.float32)
    picture = torch.from_numpy(np.stack((x, y, np.ones_like(x)), 2))
    changed = change(picture.expand(count, -1, -1, -1), seeded(seed)).double().numpy()
    return changed[..., :2], changed[..., 2] > 1 - 1e-5


def affine_parts(change, count, height, width, seed=0):
    """The matrix `[B, 2, 2]` and the shift of the middle `[B, 2]` (pixels) that explain `sources`."""
    places, inside = sources(change, count, height, width, seed)
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    y, x = np.mgrid[:height, :width]
    pixels = np.stack((x, y, np.ones_like(x)), 2) - np.append(middle, 0)
    matrices, shifts = [], []
    for place, seen in zip(places - middle, inside, strict=True):
        fitted, *_ = np.linalg.lstsq(pixels[seen], place[seen])
        assert np.abs(pixels[seen] @ fitted - place[seen]).max() < 1e-3
        matrices.append(fitted[:2].T)
        shifts.append(fitted[2])
    return np.array(matrices), np.array(shifts)


def evenly_spread(values, most):
    """Whether values look uniform in ± most, and none is beyond."""
    assert np.abs(values).max() <= most + 1e-3
    return stats.kstest(values, stats.uniform(-most, 2 * most).cdf).pvalue > 1e-3


@given(shapes, seeds)
@settings(max_examples=20)
def test_by_default_nothing_changes(shape, seed):
    images = random_images(*shape, seed=seed)
    for stored in (images, images.float() / 7):
        changed = Augmentation()(stored, seeded(seed))
        assert changed.dtype == torch.float32
        assert torch.equal(changed, stored.float())


@given(sides, sides, seeds, st.sampled_from(["zeros", "reflection"]))
@settings(max_examples=30, deadline=None)
def test_geometry_is_what_scipy_makes_of_the_same_matrix(height, width, seed, border):
    amounts = {"rotate": 40, "shift": 0.1, "scale": 0.2, "shear": 0.2, "flip": True}
    change = Augmentation(**amounts, border=border)
    matrices, shifts = affine_parts(Augmentation(**amounts), 3, height, width, seed)
    images = random_images(3, height, width, seed=seed)
    changed = change(images, seeded(seed)).numpy()
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    mode = {"zeros": "grid-constant", "reflection": "reflect"}[border]
    for image, matrix, shift, result in zip(images.numpy(), matrices, shifts, changed, strict=True):
        matrix, shift = matrix[::-1, ::-1], shift[::-1]  # scipy counts y first
        expected = ndimage.affine_transform(
            image.astype(float), matrix, middle + shift - matrix @ middle, order=1, mode=mode
        )
        np.testing.assert_allclose(result, expected, atol=0.05)


@given(sides, sides, seeds)
@settings(max_examples=30, deadline=None)
def test_rotation_keeps_distances_right_angles_and_the_middle_also_where_sides_differ(height, width, seed):
    matrices, shifts = affine_parts(Augmentation(rotate=180), 4, height, width, seed)
    np.testing.assert_allclose(
        matrices @ matrices.transpose(0, 2, 1), np.eye(2)[None].repeat(4, 0), atol=1e-4
    )
    np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-4)
    np.testing.assert_allclose(shifts, 0, atol=1e-4)


def test_each_amount_is_spread_evenly_over_its_range_and_moves_nothing_else():
    change = Augmentation(rotate=20, shift=0.1, scale=0.3, shear=0.25)
    matrices, shifts = affine_parts(change, 1000, 24, 40)
    rotations, rest = np.linalg.qr(matrices)
    signs = np.sign(np.diagonal(rest, axis1=1, axis2=2))  # qr leaves them open
    rotations, rest = rotations * signs[:, None], rest * signs[:, :, None]
    amounts = {
        "angle": (np.degrees(np.arctan2(rotations[:, 1, 0], rotations[:, 0, 0])), 20),
        "width": (np.log(rest[:, 0, 0]), 0.3),
        "height": (np.log(rest[:, 1, 1]), 0.3),
        "shear": (rest[:, 0, 1], 0.25),
        "right": (shifts[:, 0], 4.0),
        "down": (shifts[:, 1], 2.4),
    }
    for name, (values, most) in amounts.items():
        assert evenly_spread(values, most), name
    related = np.corrcoef([values for values, _ in amounts.values()])
    assert np.abs(related - np.eye(6)).max() < 0.15
    for name in ("rotate", "scale", "shear"):
        without = Augmentation(**(asdict(change) | {name: 0}))
        np.testing.assert_allclose(affine_parts(without, 1000, 24, 40)[1], shifts, atol=1e-3)


@pytest.mark.parametrize(
    ("amounts", "shape", "kinds"),
    [
        ({"flip": True}, (9, 9), 4),
        ({"quarter_turns": True}, (9, 9), 4),
        ({"flip": True, "quarter_turns": True}, (9, 9), 8),
        ({"flip": True}, (6, 11), 4),
        ({"quarter_turns": True}, (6, 11), 2),
        ({"flip": True, "quarter_turns": True}, (6, 11), 4),
    ],
)
@pytest.mark.parametrize("border", ["zeros", "reflection"])
def test_flips_and_quarter_turns_give_each_symmetric_image_equally_often(amounts, shape, kinds, border):
    image = random_images(*shape)
    turned = [np.rot90(image.numpy(), turns) for turns in range(4)]
    symmetric = np.array([im for im in [*turned, *(t[:, ::-1] for t in turned)] if im.shape == shape])
    count = 1600
    changed = Augmentation(**amounts, border=border)(image.expand(count, *shape), seeded()).numpy()
    off = np.abs(changed[:, None] - symmetric[None]).max((2, 3))
    assert off.min(1).max() < 1e-3
    often = np.bincount(off.argmin(1), minlength=len(symmetric))
    assert (often > 0).sum() == kinds
    if amounts == {"quarter_turns": True}:
        assert not often[len(symmetric) // 2 :].any()  # a turn is no mirror
    assert stats.chisquare(often[often > 0]).pvalue > 1e-3


def test_elastic_displacement_has_the_stated_size_and_is_drawn_for_each_axis_and_grid_point():
    change = Augmentation(elastic=0.02, elastic_grid=5)
    height, width = 29, 57  # grid points on the pixels 0, 7, 14 … and 0, 14, 28 …
    places, inside = sources(change, 3000, height, width)
    y, x = np.mgrid[:height, :width]
    moved = (places - np.stack((x, y), 2))[:, 7:22:7, 14:43:14]
    assert inside[:, 7:22:7, 14:43:14].mean() > 0.999
    for axis, side in ((0, width), (1, height)):
        np.testing.assert_allclose(moved[..., axis].std(0), 0.02 * side, rtol=0.06)
        np.testing.assert_allclose(moved[..., axis].mean(0), 0, atol=0.1 * 0.02 * side)
    related = np.corrcoef(moved.reshape(3000, -1).T)
    assert np.abs(related - np.eye(len(related))).max() < 0.1


def test_elastic_images_are_what_scipy_finds_at_the_displaced_places():
    change = Augmentation(elastic=0.03, rotate=5)
    places, inside = sources(change, 4, 24, 31)
    images = random_images(4, 24, 31)
    changed = change(images, seeded()).numpy()
    for image, place, seen, result in zip(images.numpy(), places, inside, changed, strict=True):
        expected = ndimage.map_coordinates(image.astype(float), place[seen].T[::-1], order=1, mode="nearest")
        np.testing.assert_allclose(result[seen], expected, atol=0.05)


def test_a_finer_elastic_grid_gives_finer_waves():
    def bend(points):
        places, inside = sources(Augmentation(elastic=0.01, elastic_grid=points), 50, 64, 64)
        inner = slice(8, 56)
        assert inside[:, inner, inner].all()
        return np.abs(np.diff(places[:, inner, inner, 0], n=2, axis=2)).mean()

    assert bend(2) < bend(5) < bend(9)


@given(shapes, seeds)
@settings(max_examples=20, deadline=None)
def test_bytes_stay_within_their_range(shape, seed):
    images = random_images(*shape, seed=seed)
    everything = Augmentation(
        30, 0.2, 0.3, 0.2, 0.05, flip=True, quarter_turns=True, brightness=1, contrast=1
    )
    changed = everything(images, seeded(seed))
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 255
    only_moved = AUGMENTATIONS["digits"](images, seeded(seed))
    assert -1e-3 <= only_moved.min() <= only_moved.max() <= 255 + 1e-3


def test_brightness_adds_one_number_to_an_image_evenly_spread_over_its_range():
    images = random_images(1000, 6, 6) // 4 + 96
    added = Augmentation(brightness=0.2)(images, seeded()) - images
    assert added.flatten(1).std(1).max() < 1e-4
    assert evenly_spread(added.mean((1, 2)).numpy(), 0.2 * 255)


def test_brightness_of_float_images_is_in_standard_deviations_of_the_batch_and_not_clamped():
    images = torch.randn(1000, 6, 6, generator=seeded(1)) * 300
    added = Augmentation(brightness=0.5)(images, seeded()) - images
    assert added.flatten(1).std(1).max() < 1e-3
    assert evenly_spread(added.mean((1, 2)).numpy() / images.numpy().std(), 0.5)


@pytest.mark.parametrize("shape", [(1000, 6, 6), (1000, 6, 6, 3)])
def test_contrast_stretches_an_image_about_its_own_mean(shape):
    images = random_images(*shape) // 4 + 96
    changed = Augmentation(contrast=0.3)(images, seeded()).numpy().reshape(1000, -1)
    before = images.numpy().reshape(1000, -1)
    np.testing.assert_allclose(changed.mean(1), before.mean(1), rtol=1e-5)
    factors = changed.std(1) / before.std(1)
    deviations = (before - before.mean(1, keepdims=True)) * factors[:, None]
    np.testing.assert_allclose(changed - changed.mean(1, keepdims=True), deviations, atol=1e-2)
    assert evenly_spread(np.log(factors), 0.3)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_generator_alone_decides(name):
    change, images = AUGMENTATIONS[name], random_images(5, 12, 12)
    torch.manual_seed(1)
    first = change(images, seeded(3))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = change(images, seeded(3))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), state)
    generator = seeded(3)
    change(images, generator)
    assert not torch.equal(change(images, generator), first)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_image_is_changed_in_its_own_way_and_none_is_written_to(name):
    for images in (random_images(1, 12, 12).repeat(6, 1, 1), torch.rand(1, 12, 12).repeat(6, 1, 1)):
        kept = images.clone()
        changed = AUGMENTATIONS[name](images, seeded())
        assert torch.equal(images, kept)
        assert len(changed.flatten(1).unique(dim=0)) == 6


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_colours_move_together_and_as_grey_does(name):
    grey = random_images(4, 15, 15)
    colour = AUGMENTATIONS[name](grey[..., None].repeat(1, 1, 1, 3), seeded())
    expected = AUGMENTATIONS[name](grey, seeded())
    for channel in colour.unbind(3):
        torch.testing.assert_close(channel, expected, rtol=1e-5, atol=1e-3)


def test_what_lies_outside_is_black_or_the_image_mirrored():
    white = torch.full((50, 10, 16), 255, dtype=torch.uint8)
    amounts = {"shift": 0.4, "rotate": 30}
    black = Augmentation(**amounts)(white, seeded())
    assert (black.amin((1, 2)) < 1).float().mean() > 0.9
    mirrored = Augmentation(**amounts, border="reflection")(white, seeded())
    torch.testing.assert_close(mirrored, white.float(), rtol=0, atol=1e-3)


def test_a_batch_may_be_empty():
    for name in AUGMENTATIONS:
        for shape in ((0, 8, 8), (0, 8, 6, 3)):
            assert AUGMENTATIONS[name](torch.zeros(shape, dtype=torch.uint8), seeded()).shape == shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_seed_means_the_same_changes_on_a_gpu(name):
    images = random_images(8, 28, 28)
    changed = AUGMENTATIONS[name](images.cuda(), seeded())
    assert changed.is_cuda
    torch.testing.assert_close(changed.cpu(), AUGMENTATIONS[name](images, seeded()), rtol=0, atol=0.05)


@pytest.mark.parametrize("shape", [(5, 12), (5, 3, 8, 8), (5,), (2, 5, 8, 8, 3)])
def test_what_is_no_batch_of_images_is_refused(shape):
    with pytest.raises(InputError, match="augmentation needs images"):
        AUGMENTATIONS["digits"](torch.zeros(shape), seeded())


def test_a_setting_is_a_name_or_fields():
    assert augmentation(None) is None
    assert augmentation("none") is None
    assert augmentation("digits") == AUGMENTATIONS["digits"]
    assert augmentation({}) == Augmentation()
    assert augmentation({"rotate": 5, "flip": True}) == Augmentation(rotate=5, flip=True)
    given = {"base": "surfaces", "contrast": 0}
    changed = augmentation(given)
    assert asdict(changed) == asdict(AUGMENTATIONS["surfaces"]) | {"contrast": 0}
    assert given == {"base": "surfaces", "contrast": 0}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_preset_survives_json(name):
    written = json.dumps(asdict(AUGMENTATIONS[name]))
    assert augmentation(json.loads(written)) == AUGMENTATIONS[name]


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ("digit", r"'digit' is not known; choose one of none, digits, surfaces; did you mean digits\?"),
        ("Digits", r"did you mean digits\?"),
        ("x", r"choose one of none, digits, surfaces$"),
        (3, r"must be a name \(none, digits, surfaces\) or fields by name, not 3"),
        (
            {"rotation": 3},
            r"field 'rotation' is not known; choose one of base, rotate.*did you mean rotate\?",
        ),
        ({7: 3}, r"field 7 is not known"),
        ({"base": "none"}, r"base 'none' is not known; choose one of digits, surfaces"),
        ({"base": ["digits"]}, r"base \['digits'\] is not known"),
        ({"rotate": 181}, r"rotate must be a number from 0 to 180, not 181"),
        ({"rotate": True}, r"rotate must be a number from 0 to 180, not True"),
        ({"rotate": "5"}, r"rotate must be a number from 0 to 180, not '5'"),
        ({"shift": 0.6}, r"shift must be a number from 0 to 0\.5, not 0\.6"),
        ({"scale": float("nan")}, r"scale must be a number from 0 to 1, not nan"),
        ({"shear": -0.1}, r"shear must be a number from 0 to 1, not -0\.1"),
        ({"elastic": 0.7}, r"elastic must be a number from 0 to 0\.5, not 0\.7"),
        ({"brightness": float("inf")}, r"brightness must be a number from 0 to 1, not inf"),
        ({"contrast": None}, r"contrast must be a number from 0 to 1, not None"),
        ({"elastic_grid": 1}, r"elastic_grid must be a whole number from 2 to 16, not 1"),
        ({"elastic_grid": 5.0}, r"elastic_grid must be a whole number from 2 to 16, not 5\.0"),
        ({"flip": 1}, r"flip must be true or false, not 1"),
        ({"quarter_turns": "yes"}, r"quarter_turns must be true or false, not 'yes'"),
        ({"border": "mirror"}, r"border 'mirror' is not known; choose one of zeros, reflection"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_helpful_line(given_, said):
    with pytest.raises(InputError, match=f"^augmentation .*{said}") as caught:
        augmentation(given_)
    assert "\n" not in str(caught.value)


def test_wrong_amounts_are_refused_however_they_come():
    with pytest.raises(InputError, match="rotate must be a number from 0 to 180, not -1"):
        Augmentation(rotate=-1)
