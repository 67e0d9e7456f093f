"""Boards: crops of one printed board that never lie alike, with traces, pads, drilled holes and printed letters."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.parts.drawing import (
    Chance,
    Floats,
    PartKind,
    Pixels,
    grid,
    line,
    lines,
    mix,
    smooth_noise,
    take_photo,
    text,
)
from mekiki.errors import InputError

PITCH = 32.0
"""Pixels between the nodes of the grid that traces run on."""
BOARD = 1.9
"""Side of the board, times the longer side of a photograph."""
LEAST_NODES = 16
"""Nodes along a side of the board, at least."""
HOLE = 6.4
"""Radius of a drilled hole in pixels."""
DEFECTS = ("open", "short", "missing hole", "spur", "mouse bite")
_STEPS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))

Node = tuple[int, int]
Point = tuple[float, float]
Place = Callable[[tuple[float, float]], Point]
"""From a node, or a place between nodes, to pixels."""


class Layout(NamedTuple):
    """A board, in nodes.

    Attributes:
        traces: each a list of nodes, two or more.
        drilled: nodes with a drilled pad.
        pads: nodes with a rectangular pad for a soldered leg, each with its direction: 0 along x, 1 along y.
        parts: corners of the rectangles that are printed around parts.
        names: of the parts.
    """

    traces: list[list[Node]]
    drilled: list[Node]
    pads: list[tuple[Node, int]]
    parts: list[tuple[Node, Node]]
    names: list[str]


def draw(height: int, width: int, chance: Chance, defect: str | None) -> Pixels:
    """A crop of the set's board, anywhere on it and a little turned."""
    lot, own = chance.lot, chance.own
    side = max(LEAST_NODES, math.ceil(BOARD * max(height, width) / PITCH))
    layout = _lay_out(side, chance.design)
    place, spots = _choose_crop(layout, side, height, width, own)
    trace_width = lot.uniform(11, 11.6)
    traces = [
        ([place(node) for node in trace], trace_width * float(own.normal(1, 0.03))) for trace in layout.traces
    ]
    copper = lines(height, width, traces)
    pads = []
    for (row, column), along in layout.pads:
        reach = np.array([along, 1 - along]) * 0.32
        pads.append(([place((row + sign * reach[0], column + sign * reach[1])) for sign in (-1, 1)], 16.0))
    tin, bore = lines(height, width, pads), np.zeros((height, width), np.float32)
    for node in layout.drilled:
        tin = np.maximum(tin, _dot(height, width, place(node), own.normal(13, 0.15)))
    bores = {
        node: _dot(height, width, _near(place(node), 0.6, own), HOLE * own.normal(1, 0.04))
        for node in layout.drilled
    }

    if defect is not None:
        spot = spots[defect][chance.defect.integers(len(spots[defect]))]
        if defect == "missing hole":
            del bores[spot[0]]
        else:
            copper = _spoil(copper, defect, place(spot[0]), place(spot[1]), trace_width, chance.defect)
    for dot in bores.values():
        bore = np.maximum(bore, dot)
    image = _lay_colours(copper, tin, bore, lot, own)
    return take_photo(_print_letters(image, layout, place, own), own, blur=0.75, noise=2.0)


def _choose_crop(
    layout: Layout, side: int, height: int, width: int, own: np.random.Generator
) -> tuple[Place, dict[str, list[tuple[Node, Node]]]]:
    """Where nodes lie in a crop, and pairs of them where each defect may be; there is room for any of them.

    Raises:
        InputError: a thousand crops had none.
    """
    turn = np.radians(own.normal(0, 1.5))
    room = (side * PITCH - np.hypot(height, width)) / 2
    for _ in range(1000):
        shift = own.uniform(-room, room, 2)

        def place(node: tuple[float, float], shift: NDArray[np.float64] = shift) -> Point:
            v, u = ((each - (side - 1) / 2) * PITCH for each in node)
            y = np.cos(turn) * v - np.sin(turn) * u + height / 2 + shift[0]
            return float(y), float(np.sin(turn) * v + np.cos(turn) * u + width / 2 + shift[1])

        spots = {defect: _candidates(layout, defect, place, height, width) for defect in DEFECTS}
        if all(spots.values()):
            return place, spots
    raise InputError(f"boards of {height} × {width} pixels: this seed's board has no place for some defect")


def _near(point: Point, deviation: float, own: np.random.Generator) -> Point:
    return point[0] + deviation * own.standard_normal(), point[1] + deviation * own.standard_normal()


def _lay_out(side: int, rng: np.random.Generator) -> Layout:
    """Parts first, then bundles of traces that run between all that is there."""
    taken = np.zeros((side, side), bool)
    layout = Layout([], [], [], [], [])
    for _ in range(rng.poisson(side * side / 160) + 1):
        rows, columns = int(rng.integers(3, 8)), int(rng.integers(3, 6))
        if rng.random() < 0.5:
            rows, columns = columns, rows
        top, left = (int(rng.integers(0, max(1, side - size))) for size in (rows, columns))
        box = (slice(top, top + rows), slice(left, left + columns))
        if taken[box].any() or top + rows > side or left + columns > side:
            continue
        taken[box] = True
        layout.parts.append(((top, left), (top + rows - 1, left + columns - 1)))
        layout.names.append(f"{rng.choice(list('RCUQDJ'))}{rng.integers(1, 99)}")
        along = int(columns > rows)  # legs stand on the longer sides
        drilled = rng.random() < 0.35
        for number in range(columns if along else rows):
            for far in (0, (rows if along else columns) - 1):
                node = (top + far, left + number) if along else (top + number, left + far)
                if drilled:
                    layout.drilled.append(node)
                else:
                    layout.pads.append((node, along))
    diagonals: set[Node] = set()
    for _ in range(side * side // 7):
        _route_bundle(taken, diagonals, layout, rng)
    return layout


def _route_bundle(taken: np.ndarray, diagonals: set[Node], layout: Layout, rng: np.random.Generator) -> None:
    """Up to four traces side by side, that turn by 45° now and then and stop where they meet something."""
    side = len(taken)
    heading = 2 * int(rng.integers(4))
    moves = []
    for _ in range(int(rng.integers(3, 16))):
        if rng.random() < 0.22:
            heading = (heading + int(rng.choice((-1, 1)))) % 8
        moves.append(_STEPS[heading])
    start = rng.integers(0, side, 2)
    beside = _STEPS[(_STEPS.index(moves[0]) + 2) % 8]
    for number in range(int(rng.integers(1, 5))):
        node = (int(start[0] + number * beside[0]), int(start[1] + number * beside[1]))
        if not (0 <= node[0] < side and 0 <= node[1] < side) or taken[node]:
            continue
        trace, crossed = [node], []
        for dy, dx in moves:
            following = (node[0] + dy, node[1] + dx)
            if not (0 <= following[0] < side and 0 <= following[1] < side) or taken[following]:
                break
            cell = (min(node[0], following[0]), min(node[1], following[1]))
            if dy and dx:
                if cell in diagonals:
                    break
                crossed.append(cell)
            node = following
            trace.append(node)
        if len(trace) < 3:
            continue
        diagonals.update(crossed)
        for node in trace:
            taken[node] = True
        layout.traces.append(trace)
        layout.drilled.extend((trace[0], trace[-1]))


def _candidates(
    layout: Layout, defect: str, place: Place, height: int, width: int
) -> list[tuple[Node, Node]]:
    """Pairs of nodes inside the photograph where a defect may be; for a hole the node twice."""

    def inside(node: Node) -> bool:
        y, x = place(node)
        return 16 < y < height - 16 and 16 < x < width - 16

    if defect == "missing hole":
        pairs = [(node, node) for node in layout.drilled]
    elif defect == "short":
        owner = {node: number for number, trace in enumerate(layout.traces) for node in trace}
        pairs = [
            (node, other)
            for node, number in owner.items()
            for other in ((node[0] + 1, node[1]), (node[0], node[1] + 1))
            if owner.get(other, number) != number
        ]
    else:
        pairs = [pair for trace in layout.traces for pair in itertools.pairwise(trace)]
    return [pair for pair in pairs if inside(pair[0]) and inside(pair[1])]


def _spoil(
    copper: Floats, defect: str, start: Point, end: Point, trace_width: float, rng: np.random.Generator
) -> Floats:
    """The copper with a defect between two neighbouring nodes."""
    height, width = copper.shape
    along = np.subtract(end, start)
    along /= np.hypot(*along)
    across = np.array([-along[1], along[0]])
    middle = np.array(start) + rng.uniform(0.45, 0.55) * np.subtract(end, start)
    if defect == "open":
        slant = across + rng.normal(0, 0.25) * along
        ends = [tuple(middle + sign * 0.75 * trace_width * slant) for sign in (-1, 1)]
        return copper * (1 - line(height, width, ends, rng.uniform(9.0, 18.0)))
    if defect == "short":
        bowed = middle + rng.normal(0, 3.5) * across
        return np.maximum(copper, line(height, width, [start, tuple(bowed), end], rng.uniform(7.0, 13.0)))
    edge = middle + rng.choice((-1, 1)) * trace_width / 2 * across
    blob = np.zeros_like(copper)
    for _ in range(3):
        radius = rng.uniform(4.5, 8.0)
        blob = np.maximum(blob, _dot(height, width, tuple(edge + rng.normal(0, 2, 2)), radius))
    return np.maximum(copper, blob) if defect == "spur" else copper * (1 - blob)


def _dot(height: int, width: int, point: Point, radius: float) -> Floats:
    dot = np.zeros((height, width), np.float32)
    top, left = (max(0, int(each - radius - 2)) for each in point)
    part = dot[top : max(0, int(point[0] + radius + 3)), left : max(0, int(point[1] + radius + 3))]
    y, x = grid(*part.shape)
    part[:] = np.clip(radius + 0.5 - np.hypot(y + top - point[0], x + left - point[1]), 0, 1)
    return dot


def _lay_colours(
    copper: Floats, tin: Floats, bore: Floats, lot: np.random.Generator, own: np.random.Generator
) -> Floats:
    """Green resin, bare copper, tinned pads, and dark holes."""
    height, width = copper.shape
    y, x = grid(height, width)
    green = np.array([lot.uniform(16, 28), lot.uniform(78, 90), lot.uniform(46, 56)], np.float32)
    weave = np.sin(2 * np.pi * x / 5.3) * np.sin(2 * np.pi * y / 5.3) + 0.6 * smooth_noise(
        own, height, width, 3
    )
    ground = green * (1 + 0.035 * weave[:, :, None])
    bare = lot.uniform(0.92, 1.05) * np.array([196, 146, 92], np.float32)
    over = bare * (1 + 0.035 * smooth_noise(own, height, width, 7)[:, :, None])
    image = mix(ground, copper, over)
    # The flank of a trace is in shade on one side.
    flank = np.roll(copper, (1, 1), (0, 1)) - copper
    image = image * (1 - 0.18 * np.clip(flank, 0, 1)[:, :, None])
    metal = (
        lot.uniform(165, 200)
        + 6 * smooth_noise(own, height, width, 4)
        + 4 * smooth_noise(own, height, width, 30)
    )
    image = mix(image, tin, metal[:, :, None] * np.array([1.0, 0.98, 0.9], np.float32))
    image = mix(image, bore, (26, 24, 22))
    light = own.uniform(0.93, 1.07) * (
        1 + own.normal(0, 0.06) * (x / width - 0.5) + own.normal(0, 0.06) * (y / height - 0.5)
    )
    lit: Floats = (image * light[:, :, None]).astype(np.float32)
    return lit


def _print_letters(image: Floats, layout: Layout, place: Place, own: np.random.Generator) -> Floats:
    """Outlines and names of parts in white ink."""
    height, width = image.shape[:2]
    frames, letters = [], np.zeros((height, width), np.float32)
    for ((top, left), (bottom, right)), name in zip(layout.parts, layout.names, strict=True):
        y0, x0, y1, x1 = top - 0.5, left - 0.5, bottom + 0.5, right + 0.5
        corners = [(y0, x0), (y0, x1), (y1, x1), (y1, x0), (y0, x0)]
        frames.append(([place(each) for each in corners], 2.5))
        middle = place(((top + bottom) / 2, (left + right) / 2))
        if 20 < middle[0] < height - 20 and 20 < middle[1] < width - 20:
            letters = np.maximum(letters, text(height, width, name, middle, 20))
    worn = np.clip(0.85 + 0.15 * smooth_noise(own, height, width, 4), 0, 1)
    return mix(image, np.maximum(lines(height, width, frames), letters) * worn, 218.0)


BOARDS = PartKind((256, 256), DEFECTS, draw)
