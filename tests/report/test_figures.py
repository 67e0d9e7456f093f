"""The pictures: what is written on them, how they behave at the edges, and that nothing warns."""

import itertools
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from mekiki.errors import InputError, MissingExtraError
from mekiki.report import figures
from mekiki.report.figures import fonts, palette
from mekiki.report.figures.scatter_plot import separate_boxes
from mekiki.report.figures.training_curves import rate_steps

JAPANESE = ["良品", "傷", "打痕", "汚れ"]
HISTORY = {
    "epoch": [1, 2, 3, 4],
    "train_loss": [0.05, 0.03, 0.02, 0.01],
    "val_loss": [0.04, None, float("nan"), 0.02],
    "lr": [1e-3, 1e-3, 1e-3, 1e-4],
    "seconds": [9.0, 9.1, 9.0, 9.2],
}


@pytest.fixture(autouse=True)
def every_warning_is_an_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def blobs():
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=300)
    return rng.normal(size=(4, 2))[labels] * 5 + rng.normal(size=(300, 2)), labels


def save(figure, tmp_path):
    path = tmp_path / "folder" / "picture.png"
    figures.save(figure, path)
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert (np.asarray(image.convert("RGB"))[0, 0] == 255).all(), "solid white background"
        return image.size


def words(figure):
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


# ---- projection ----


def test_two_dimensions_are_shown_as_they_are():
    vectors = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    shown = figures.project(vectors, method="tsne")
    assert np.array_equal(shown.points, vectors)
    assert shown.axis_names == ("dimension 1", "dimension 2")
    shown.points[0] = 99
    assert vectors[0, 0] != 99, "the caller's vectors are not shared"


def test_one_dimension_gets_jitter_that_is_named_and_seeded():
    vectors = np.linspace(0, 1, 10)[:, None]
    shown = figures.project(vectors, seed=3)
    assert np.array_equal(shown.points[:, 0], vectors[:, 0])
    assert "jitter" in shown.axis_names[1]
    assert np.array_equal(shown.points, figures.project(vectors, seed=3).points)


def test_pca_is_learnt_from_the_training_vectors_and_applied_to_others():
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(200, 5)) * [9, 3, 1, 1, 1], rng.normal(size=(50, 5)) + 100
    learnt = figures.project(train)
    both = figures.project(test, fit=train)
    assert np.allclose(learnt.transform(test), both.points)
    centred = train - train.mean(axis=0)
    shares = np.linalg.svd(centred, compute_uv=False) ** 2
    assert learnt.axis_names[0] == f"PCA 1 ({100 * shares[0] / shares.sum():.0f} % of variance)"
    assert abs(both.points).max() > 50, "the test vectors keep their own distance from the training mean"


@pytest.mark.parametrize("vectors", [np.ones((5, 3)), np.ones((1, 3)), np.zeros((2, 700))])
def test_collapsed_vectors_still_get_a_picture(vectors):
    shown = figures.project(vectors)
    assert shown.points.shape == (len(vectors), 2)
    assert np.isfinite(shown.points).all()
    assert shown.axis_names[0] == "PCA 1 (0 % of variance)"


def test_tsne_places_a_second_set_and_has_no_unit():
    pytest.importorskip("openTSNE")
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 6)) * 20
    labels = np.repeat([0, 1, 2], 20)
    shown = figures.project(centres[labels] + rng.normal(size=(60, 6)), method="tsne")
    assert shown.axis_names == ("t-SNE 1 (no unit)", "t-SNE 2 (no unit)")
    middles = np.array([shown.points[labels == k].mean(axis=0) for k in range(3)])
    placed = shown.transform(centres)
    assert (np.linalg.norm(placed[:, None] - middles[None], axis=2).argmin(axis=1) == [0, 1, 2]).all()


def test_tsne_without_its_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    with pytest.raises(MissingExtraError, match=r"mekiki\[tsne\]"):
        figures.project(np.eye(9), method="tsne")


@pytest.mark.parametrize(
    ("vectors", "more", "message"),
    [
        (np.zeros(3), {}, "must be"),
        (np.zeros((0, 3)), {}, "at least one row"),
        ([[1.0, math.nan, 0]], {}, "1 of 1 vectors are not finite"),
        (np.zeros((3, 4)), {"fit": np.zeros((3, 5))}, "length"),
        (np.zeros((3, 4)), {"method": "umap"}, "'pca' or 'tsne'"),
    ],
)
def test_unusable_vectors_are_refused_in_one_line(vectors, more, message):
    with pytest.raises(InputError, match=message) as caught:
        figures.project(vectors, **more)
    assert "\n" not in str(caught.value)


def test_frame_covers_the_crowd_counts_the_rest_and_is_square():
    points = np.random.default_rng(0).normal(size=(5000, 2))
    points[:4] = [[1e9, 0], [0, -1e9], [5e8, 5e8], [-1e9, 0]]
    shown = figures.frame(points)
    assert shown.x[1] - shown.x[0] == pytest.approx(shown.y[1] - shown.y[0])
    assert shown.x[1] < 10
    assert 4 <= shown.outside <= 20
    assert figures.frame(points[4:]).outside <= 20
    assert figures.frame(np.zeros((3, 2))).outside == 0
    assert figures.frame(np.zeros((0, 2))).outside == 0


# ---- palette ----


def test_class_colours_stay_apart_for_colour_blind_readers_and_on_both_backgrounds():
    # Machado et al. 2009, severity 1, in linear RGB; distances in OKLab (Ottosson 2020).
    readers = {
        "normal": np.eye(3),
        "protan": [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        "deutan": [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
        "tritan": [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ],
    }
    cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    srgb = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in figures.COLOURS]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    for reader, matrix in readers.items():
        seen = np.cbrt(np.clip(linear @ np.transpose(matrix), 0, 1) @ np.transpose(cones)) @ np.transpose(lab)
        closest = min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))
        assert closest >= 0.085, reader
    light = linear @ [0.2126, 0.7152, 0.0722]
    assert (1.05 / (light + 0.05)).min() > 1.9, "on white"
    assert ((light + 0.05) / 0.058).min() > 2.0, "on near-black"


def test_a_hundred_classes_have_a_hundred_looks():
    assert len({figures.class_style(i)[:2] for i in range(100)}) == 100
    assert figures.class_style(100) == figures.class_style(0)
    assert len(palette.overlap_colours(5)) == 5


# ---- scatter ----


def test_scatter_names_axes_classes_and_has_one_scale(blobs, tmp_path):
    points, labels = blobs
    figure = figures.scatter(
        points, labels, ["ok", "_dent", "$x^2$", "a" * 60], ("PCA 1", "PCA 2"), "Test images"
    )
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_aspect()) == ("PCA 1", "PCA 2", 1.0)
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend[:3] == ["ok", "_dent", "$x^2$"]
    assert legend[3] == "a" * 12 + "…" + "a" * 11
    assert {text.get_text() for text in axes.texts} >= {"ok", "_dent", "$x^2$"}
    assert "Test images" in words(figure)
    width, height = save(figure, tmp_path)
    assert width > height > 800


def test_scatter_labels_stand_at_the_medians_and_do_not_cover_each_other(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 50)
    figure = figures.scatter(rng.normal(size=(400, 2)), labels, [f"class no. {i}" for i in range(8)])
    save(figure, tmp_path)
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    from matplotlib.text import Text

    plain = [Text.get_window_extent(text) for text in figure.axes[0].texts]
    assert len(boxes) == 8
    assert not any(a.overlaps(b) for a, b in itertools.combinations(plain, 2))


def test_scatter_says_how_many_points_lie_outside_and_how_many_are_drawn():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(20_500, 2))
    points[0] = 1e9
    figure = figures.scatter(points, np.zeros(len(points), int), ["one"], title="Many")
    remark = figure.axes[0].get_title(loc="left")
    assert "20,000 of 20,500 points drawn, at random" in remark
    assert "outside the frame" in remark
    assert figure.axes[0].get_xlim()[1] < 10
    assert sum(len(marks.get_offsets()) for marks in figure.axes[0].collections) == 20_000


@pytest.mark.parametrize("count", [0, 1, 5])
def test_scatter_of_few_or_equal_points_works(count, tmp_path):
    figure = figures.scatter(np.zeros((count, 2)), np.zeros(count, int), ["only"])
    save(figure, tmp_path)
    assert len(figure.axes[0].texts) == min(count, 1)


def test_scatter_of_many_classes_keeps_labels_and_sets_the_legend_in_columns(tmp_path):
    labels = np.repeat(np.arange(45), 4)
    points = np.random.default_rng(0).normal(size=(45, 2))[labels] * 9
    figure = figures.scatter(points, labels, [f"part {i}" for i in range(45)])
    axes = figure.axes[0]
    assert len(axes.texts) == len(axes.get_legend().get_texts()) == 45
    assert axes.get_legend()._ncols == 3
    save(figure, tmp_path)


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        ([[0, 0]], [0, 1], r"\[1, 2\] and \[2\]"),
        ([[0, 0]], [2], "labels run from 2 to 2"),
        ([[0, 0]], [-1], "labels run from -1"),
        ([[0, math.inf]], [0], "1 points are not finite"),
    ],
)
def test_scatter_refuses_what_does_not_fit(points, labels, message):
    with pytest.raises(InputError, match=message):
        figures.scatter(points, labels, ["a", "b"])


def test_boxes_in_one_place_are_spread_within_bounds():
    half = np.tile([10.0, 4.0], (12, 1))
    at = separate_boxes(np.full((12, 2), 50.0), half, half, 100 - half)
    overlap = half[:, None] + half[None] - np.abs(at[:, None] - at[None])
    clash = (overlap > 0.5).all(axis=2) & ~np.eye(12, dtype=bool)
    assert not clash.any()
    assert (at >= half).all()
    assert (at <= 100 - half).all()


# ---- Japanese ----


def test_japanese_names_are_drawn_or_numbered_but_never_tofu(blobs, tmp_path):
    points, labels = blobs
    save(figures.scatter(points, labels, JAPANESE, title="検査"), tmp_path)
    save(figures.overlap_matrix(np.full((4, 4), 0.1), JAPANESE), tmp_path)
    save(figures.comparison(JAPANESE, {"正解率 (%)": (np.arange(4.0), np.ones(4))}), tmp_path)
    grey = np.zeros((1, 8, 8), np.uint8)
    save(figures.confused_pairs(grey, grey, ["良品 と 傷"]), tmp_path)


def test_without_a_font_the_class_gets_its_number(monkeypatch):
    monkeypatch.setattr(fonts, "_glyphs", lambda: frozenset(range(32, 127)))
    assert fonts.class_labels(["ok", *JAPANESE[1:]]) == ["ok", "class 1", "class 2", "class 3"]
    assert fonts.drawable_text("傷 17") == "? 17"


def test_empty_names_and_line_breaks_become_one_line():
    assert fonts.class_labels(["", "a\nb"]) == ["class 0", "a b"]


# ---- loss curve ----


def test_loss_curve_marks_rate_steps_and_ticks_whole_epochs(tmp_path):
    figure = figures.loss_curve(HISTORY)
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "loss (mean per sample)")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training", "validation"]
    assert "rate 0.0001" in words(figure)
    save(figure, tmp_path)
    assert all(float(tick).is_integer() for tick in axes.get_xticks())


@pytest.mark.parametrize(
    ("names", "unit"),
    [
        (("accuracy", "val_accuracy"), "accuracy (%)"),
        (("pair_accuracy", "val_pair_accuracy"), "pairs judged rightly (%)"),
    ],
)
def test_loss_curve_shows_accuracy_in_per_cent_below(names, unit, tmp_path):
    figure = figures.loss_curve({**HISTORY, names[0]: [0.5, 0.6, 0.7, 0.8], names[1]: [0.4, None, 0.6, 0.7]})
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss (mean per sample)", unit]
    assert figure.axes[1].lines[0].get_ydata().tolist() == [50, 60, 70, 80]
    save(figure, tmp_path)


@pytest.mark.parametrize("val", [[], [None], [float("nan")], [0.2]])
def test_one_epoch_shows_a_mark(val, tmp_path):
    history = {"epoch": [1], "train_loss": [0.3]} | ({"val_loss": val} if val else {})
    figure = figures.loss_curve(history)
    assert figure.axes[0].lines[0].get_marker() == "o"
    save(figure, tmp_path)


def test_diverged_history_is_still_drawn(tmp_path):
    save(figures.loss_curve({"train_loss": [None, float("nan")], "lr": [0.1, 0.1]}), tmp_path)


def test_history_without_epochs_or_with_ragged_columns_is_refused():
    with pytest.raises(InputError, match="no epochs"):
        figures.loss_curve({})
    with pytest.raises(InputError, match="differ in length"):
        figures.loss_curve({"epoch": [1, 2], "train_loss": [0.1]})


def test_a_rate_that_changes_every_epoch_has_no_steps():
    epochs = np.arange(20.0)
    assert rate_steps({"epoch": epochs, "lr": np.cos(epochs / 20)}) == []
    assert rate_steps({"epoch": epochs}) == []


# ---- the other charts ----


def test_pair_distances_carry_unit_threshold_and_error_rate(tmp_path):
    figure = figures.pair_distances(
        [0, 1, 2, 3], [6, 3, 1], [1, 3, 6], 1.5, 0.2, "Euclidean distance (margin = 1)"
    )
    axes = figure.axes[0]
    assert axes.get_xlabel() == "Euclidean distance (margin = 1)"
    assert "threshold 1.5: equal error rate 20.0 %" in words(figure)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["same class", "different classes"]
    save(figure, tmp_path)


def test_few_far_pairs_do_not_squeeze_the_histogram():
    edges = np.arange(101.0)
    counts = np.r_[np.full(10, 1000.0), np.zeros(89), 1]
    axes = figures.pair_distances(edges, counts, counts, 4.0).axes[0]
    assert axes.get_xlim()[1] <= 12
    assert "lie farther apart" in axes.get_xlabel()


def test_histograms_without_pairs_or_threshold_still_show(tmp_path):
    save(figures.pair_distances([0, 1], [0], [0]), tmp_path)
    with pytest.raises(InputError, match="edges"):
        figures.pair_distances([0, 1], [1, 2], [1])
    with pytest.raises(InputError, match="rise"):
        figures.pair_distances([0, 0], [1], [1])


def test_overlap_annotates_few_classes_and_thins_ticks_of_many(tmp_path):
    few = figures.overlap_matrix([[math.nan, 0.031], [0.0, 0.0001]], ["4", "9"])
    assert [text.get_text() for text in few.axes[0].texts] == ["3.1", "0", "<0.1"]
    assert "farther apart" in few.axes[1].get_ylabel()
    save(few, tmp_path)
    many = figures.overlap_matrix(
        np.random.default_rng(0).random((100, 100)) / 2, [f"part {i}" for i in range(100)]
    )
    assert not many.axes[0].texts
    assert len(many.axes[0].get_xticks()) <= 40
    save(many, tmp_path)
    save(figures.overlap_matrix([[math.nan]], ["only"]), tmp_path)
    with pytest.raises(InputError, match="2 classes"):
        figures.overlap_matrix([[0.1]], ["a", "b"])


@pytest.mark.parametrize("shape", [(3, 28, 28), (7, 120, 60, 3)])
def test_confused_pairs_hold_both_images_and_the_caption(shape, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    figure = figures.confused_pairs(pixels, 255 - pixels, [f"pair {i}" for i in range(shape[0])], "Confused")
    assert len(figure.axes) == shape[0]
    shown = figure.axes[0].images[0].get_array()
    assert shown.shape[1] > 2 * shape[2]
    assert {"Confused", "pair 0", "pair 2"} <= set(words(figure))
    save(figure, tmp_path)


def test_no_confused_pair_is_said():
    empty = np.zeros((0, 8, 8), np.uint8)
    assert "no such pair" in words(figures.confused_pairs(empty, empty, []))
    with pytest.raises(InputError, match="1 captions"):
        figures.confused_pairs(empty, empty, ["a"])


def test_comparison_draws_a_panel_a_metric_and_leaves_gaps(tmp_path):
    figure = figures.comparison(
        ["siamese", "triplet"],
        {f"metric {i} (%)": ([96.7, math.nan], [0.1, math.nan]) for i in range(5)}
        | {"none": ([math.nan] * 2, [0, 0])},
    )
    assert len(figure.axes) == 6
    assert figure.axes[0].get_title(loc="left") == "metric 0 (%)"
    assert "96.7 ± 0.1" in words(figure)
    save(figure, tmp_path)
    with pytest.raises(InputError, match="2 losses"):
        figures.comparison(["a", "b"], {"m": ([1], [1])})


def test_saving_keeps_the_old_picture_when_drawing_fails(tmp_path):
    path = tmp_path / "loss.png"
    path.write_bytes(b"old")
    figure = figures.loss_curve(HISTORY)
    figure.savefig = None
    with pytest.raises(TypeError):
        figures.save(figure, path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["loss.png"]


def test_pictures_and_reports_start_without_heavy_libraries():
    code = (
        "import sys, mekiki.report.figures, mekiki.report;"
        "print(sorted({'torch', 'matplotlib', 'plotly', 'sklearn', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_drawing_leaves_global_settings_alone():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    figures.loss_curve(HISTORY)
    assert dict(mpl.rcParams) == before


def test_scores_of_any_scale_are_drawn_with_ticks_that_can_be_read():
    for ok, ng in (([1e-9, 2e-9], []), ([-3.0, 0.0, 5.0], [1e6]), ([2.0], []), ([1.0, 1.1], [1.05, 90.0])):
        axes = figures.score_histogram(ok, ng, threshold=max(ok)).axes[0]
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert low <= min([*ok, *ng]) <= max([*ok, *ng]) <= high
        assert len(ticks) <= 16
    with pytest.raises(InputError, match="finite"):
        figures.score_histogram([1.0, np.nan])
    with pytest.raises(InputError, match="at least one OK"):
        figures.score_histogram([], [1.0])


def test_every_part_is_in_one_bin_of_its_kind():
    axes = figures.score_histogram([0.1, 0.5, 7.0], [7.0, 800.0]).axes[0]
    filled = [patch for patch in axes.patches if patch.get_fill()]
    assert [sum(patch.get_data().values) for patch in filled] == pytest.approx([1.0, 1.0])


def test_factor_effects_and_trade_off_refuse_what_does_not_fit():
    with pytest.raises(InputError, match="2 items"):
        figures.factor_effects(["a", "b"], [[1.0, 2.0]])
    with pytest.raises(InputError, match="as many"):
        figures.trade_off_curve([0.1], [0.1, 0.2])
    chart = figures.factor_effects([f"item number {i}" for i in range(40)], np.full((40, 2), np.nan))
    assert len(chart.axes[0].lines) == 40
