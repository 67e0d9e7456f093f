"""Two-dimensional projections of vectors for the page, computed once for each state of their source."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from mekiki.cases.relabel import Relabelling, relabel, undo_relabelling
from mekiki.cases.remember import SelectedPhoto, remember_selected
from mekiki.errors import BusyError, InputError, MekikiError, NotFoundError
from mekiki.report.figures.projection import project
from mekiki.storage.run_folder import JUDGE, JUDGE_SETTINGS, METRICS, TRAININGS
from mekiki.web.projection_sources import MapTable, case_table, judge_table, run_table, vector_table
from mekiki.web.state import AppState, file_state
from mekiki.web.wire import check_label, encode_column

TRAINING = "training-"
MAX_LABELS = 2**16


@dataclass(frozen=True)
class MapSource:
    """One map that can be shown, and what can be done with its points."""

    source: str
    title: str
    count: int
    dimension: int
    fingerprint: str
    pictures: bool
    can_label: bool
    can_remember: bool


@dataclass(frozen=True)
class MapColumns:
    """A map, column by column, as base64 of little-endian numbers.

    `x`, `y` and `distance` (NaN where unknown) are float32, `label` (uint16) and `verdict` (uint8) are indices into
    `labels` and `verdicts`. The fingerprint changes when a row may mean another point.
    """

    source: str
    fingerprint: str
    count: int
    axes: list[str]
    note: str
    x: str
    y: str
    label: str
    labels: list[str]
    verdict: str
    verdicts: list[str]
    distance: str
    distance_name: str


@dataclass(frozen=True)
class MapPoint:
    """One point of a map; `distance` is `None` where it is unknown."""

    row: int
    id: str
    name: str
    label: str
    verdict: str
    distance: float | None
    picture: bool
    facts: dict[str, str]


@dataclass
class Maps:
    """The maps of a run.

    Args:
        state: of the server.
    """

    state: AppState
    _computed: dict[str, tuple[MapTable, MapColumns]] = field(default_factory=dict)

    def list_sources(self) -> list[MapSource]:
        """List the maps; a source that cannot be read is left out."""
        sources = []
        for source in self._names():
            try:
                table, columns = self.get(source)
            except (
                MekikiError
            ):  # nothing is stored, or it is damaged: a request for this map reports the error
                continue
            sources.append(
                MapSource(
                    source,
                    table.title,
                    columns.count,
                    table.vectors.shape[1],
                    columns.fingerprint,
                    pictures=table.picture is not None,
                    can_label=source == "cases",
                    can_remember=table.pixels is not None,
                )
            )
        return sources

    def _names(self) -> list[str]:
        folder = self.state.folder
        names = ["run"] if (folder / METRICS).is_file() else []
        names += ["judge"] if self.state.calibrated else []
        names += sorted(f"{TRAINING}{path.parent.name}" for path in folder.glob(f"{TRAININGS}/*/{METRICS}"))
        return [*names, "cases", *(["vectors"] if self.state.vectors is not None else [])]

    def get(self, source: str) -> tuple[MapTable, MapColumns]:
        """Return a map; it is computed again only when its source has changed.

        Raises:
            NotFoundError: there is no such source.
            InputError: it cannot be read, or is empty.
        """
        if source not in self._names():
            raise NotFoundError(f"map {source}: there is none; GET /api/maps lists them")
        version, load = self._source(source)
        fingerprint = hashlib.sha256(f"{source} {version}".encode()).hexdigest()[:16]
        computed = self._computed.get(source)
        if computed is None or computed[1].fingerprint != fingerprint:
            table = load()
            self._computed[source] = computed = table, _project(source, fingerprint, table)
        return computed

    def _source(self, source: str) -> tuple[object, Callable[[], MapTable]]:
        """Return the version of a source, and what loads it."""
        state = self.state
        if source == "cases":
            store = state.run_memory().store("images")
            return store.version(), lambda: case_table(store, calibrated=state.calibrated)
        if source == "judge":
            return _version(state.folder / JUDGE / JUDGE_SETTINGS), lambda: judge_table(state.inspector())
        if source == "vectors" and state.vectors is not None:
            path = state.vectors
            return _version(path), lambda: vector_table(path)
        name = source.removeprefix(TRAINING)
        folder = state.folder / TRAININGS / name if source.startswith(TRAINING) else state.folder
        return _version(folder / METRICS), lambda: run_table(folder)

    def point(self, source: str, row: int) -> MapPoint:
        """Return what is known of a point."""
        table = self._row(source, row)
        distance = float(table.distance[row])
        return MapPoint(
            row,
            table.ids[row],
            table.names[row],
            table.labels[row],
            table.verdicts[int(table.verdict[row])],
            distance if np.isfinite(distance) else None,
            table.picture is not None,
            table.facts(row),
        )

    def picture(self, source: str, row: int) -> bytes:
        """Return the picture of a point, as PNG."""
        table = self._row(source, row)
        content = None if table.picture is None else table.picture(row)
        if content is None:
            raise NotFoundError(f"map {source}, row {row}: has no picture")
        return content

    def _row(self, source: str, row: int) -> MapTable:
        table, columns = self.get(source)
        if row >= columns.count:
            raise NotFoundError(f"map {source}, row {row}: there are {columns.count:,}, counted from 0")
        return table

    def label(
        self, source: str, fingerprint: str, rows: Sequence[int], label: str
    ) -> tuple[Relabelling, str]:
        """Give points another label; return the change and the new fingerprint of the map."""
        if source != "cases":
            raise InputError(
                f"map {source}: only cases can be relabelled; send the points to the cases first"
            )
        check_label(label)
        table = self._current_table(source, fingerprint, rows)
        with self.state.changing():
            change = relabel(self.state.run_memory(), [table.ids[row] for row in rows], label)
        return change, self.get(source)[1].fingerprint

    def remember(
        self, source: str, fingerprint: str, rows: Sequence[int], label: str | None
    ) -> dict[str, int]:
        """Send points to the cases; without `label` each keeps its own."""
        table = self._current_table(source, fingerprint, rows)
        if table.pixels is None:
            raise InputError(f"map {source}: has no photographs that could be sent to the cases")
        photographs = []
        with ExitStack() as cleanup:
            for row in dict.fromkeys(rows):
                path, pixels = Path(table.names[row]), table.pixels(row)
                if pixels is not None:
                    path = self.state.uploads.folder / f"{source}-{row}.png"
                    cleanup.callback(path.unlink, missing_ok=True)
                    Image.fromarray(pixels).save(path)
                photographs.append(SelectedPhoto(path, table.names[row], label or table.labels[row]))
            with self.state.changing():
                return remember_selected(self.state.run_memory(), photographs)

    def undo(self, number: int) -> Relabelling:
        """Undo a change of labels."""
        with self.state.changing():
            return undo_relabelling(self.state.run_memory(), number)

    def _current_table(self, source: str, fingerprint: str, rows: Sequence[int]) -> MapTable:
        """Return the table that the caller saw.

        Raises:
            BusyError: it has changed, so that the rows may mean other points.
        """
        table, columns = self.get(source)
        if columns.fingerprint != fingerprint:
            raise BusyError(f"map {source}: has changed since it was read; fetch it again")
        self._row(source, max(rows))
        return table


def _project(source: str, fingerprint: str, table: MapTable) -> MapColumns:
    if not len(table.vectors):
        raise InputError(f"map {source}: holds no vectors")
    names = sorted(set(table.labels))
    if len(names) > MAX_LABELS:
        raise InputError(f"map {source}: has {len(names):,} labels; at most {MAX_LABELS:,} can be shown")
    projection = project(table.vectors)
    index = {name: number for number, name in enumerate(names)}
    return MapColumns(
        source=source,
        fingerprint=fingerprint,
        count=len(table.vectors),
        axes=list(projection.axis_names),
        note=projection.note,
        x=encode_column(projection.points[:, 0], "<f4"),
        y=encode_column(projection.points[:, 1], "<f4"),
        label=encode_column(np.array([index[label] for label in table.labels]), "<u2"),
        labels=names,
        verdict=encode_column(table.verdict, "<u1"),
        verdicts=list(table.verdicts),
        distance=encode_column(table.distance, "<f4"),
        distance_name=table.distance_name,
    )


def _version(path: Path) -> object:
    version = file_state(path)
    if not version:
        raise InputError(f"{path}: cannot be read; give a file that exists")
    return version
