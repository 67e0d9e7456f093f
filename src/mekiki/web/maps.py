"""Maps: vectors as points of a plane, computed once, sent column by column."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Response
from fastapi import Path as InPath
from numpy.typing import NDArray
from PIL import Image

from mekiki.cases.relabel import Relabelling, read_relabellings, relabel, undo_relabelling
from mekiki.cases.remember import SelectedPhoto, remember_selected
from mekiki.errors import InputError, MekikiError
from mekiki.judging.routes import Number, png
from mekiki.report.figures.projection import project
from mekiki.storage.run_folder import JUDGE, JUDGE_SETTINGS, METRICS, TRAININGS
from mekiki.web.http_errors import BusyError, NotThereError
from mekiki.web.map_sources import Table, case_table, judge_table, run_table, vector_table
from mekiki.web.models import (
    LabelChange,
    LabelChanges,
    Labelled,
    Labelling,
    MapColumns,
    Point,
    Remembered,
    Sending,
    Source,
    Sources,
)
from mekiki.web.state import Served

SourceInPath = Annotated[str, InPath(min_length=1, max_length=200, pattern=r"^[\w.=-]+$")]
TRAINING = "training-"
MOST_LABELS = 2**16


@dataclass(frozen=True, eq=False)
class Drawn:
    """A table with its points."""

    table: Table
    columns: MapColumns
    verdict: NDArray[np.uint8]
    distance: NDArray[np.float32]


@dataclass
class Maps:
    """The maps of a run.

    Args:
        served: the run.
    """

    served: Served
    _drawn: dict[str, Drawn] = field(default_factory=dict)

    def sources(self) -> Sources:
        """Which maps there are; a source that cannot be read is none."""
        told = []
        for source in self._names():
            try:
                drawn = self.drawn(source)
            except MekikiError:  # nothing is remembered, or it is damaged: asked for by name, it says so
                continue
            table = drawn.table
            told.append(
                Source(
                    source=source,
                    title=table.title,
                    count=len(table.vectors),
                    dimension=table.vectors.shape[1],
                    fingerprint=drawn.columns.fingerprint,
                    pictures=table.picture is not None,
                    can_label=source == "cases",
                    can_remember=table.picked is not None,
                )
            )
        return Sources(maps=told)

    def _names(self) -> list[str]:
        folder = self.served.folder / TRAININGS
        finished = sorted(path.parent.name for path in folder.glob("*/metrics.json"))
        own = [("run", (self.served.folder / METRICS).is_file()), ("judge", self.served.calibrated)]
        names = [name for name, there in own if there]
        names += [f"{TRAINING}{name}" for name in finished]
        return [*names, "cases", *(["vectors"] if self.served.vectors is not None else [])]

    def drawn(self, source: str) -> Drawn:
        """A map, computed anew only when its vectors have changed.

        Raises:
            NotThereError: there is no such source.
            InputError: it cannot be read, or holds nothing.
        """
        if source not in self._names():
            raise NotThereError(f"map {source}: there is none; GET /api/maps lists them")
        open_table, stamp = self._opener(source)
        fingerprint = hashlib.sha256(f"{source} {stamp}".encode()).hexdigest()[:16]
        held = self._drawn.get(source)
        if held is not None and held.columns.fingerprint == fingerprint:
            return held
        table = open_table()
        self._drawn[source] = drawn = _draw(source, fingerprint, table)
        return drawn

    def _opener(self, source: str) -> tuple[Callable[[], Table], object]:
        served = self.served
        if source == "cases":
            store = served.run_memory().store("images")
            return lambda: case_table(store, calibrated=served.calibrated), store.version()
        if source == "judge":
            return lambda: judge_table(served.inspector()), _changed(served.folder / JUDGE / JUDGE_SETTINGS)
        if source == "vectors" and served.vectors is not None:
            path = served.vectors
            return lambda: vector_table(path), _changed(path)
        folder = served.folder
        if source.startswith(TRAINING):
            folder = folder / TRAININGS / source.removeprefix(TRAINING)
        return lambda: run_table(folder), _changed(folder / METRICS)

    def point(self, source: str, row: int) -> Point:
        """What there is to say of a point."""
        drawn = self.drawn(source)
        table = _checked(drawn, source, row)
        distance = float(drawn.distance[row])
        return Point(
            row=row,
            id=table.ids[row],
            name=table.names[row],
            label=table.labels[row],
            verdict=drawn.columns.verdicts[int(drawn.verdict[row])],
            distance=distance if np.isfinite(distance) else None,
            picture=table.picture is not None,
            facts=table.facts(row),
        )

    def picture(self, source: str, row: int) -> bytes:
        """The picture of a point, as PNG."""
        table = _checked(self.drawn(source), source, row)
        content = None if table.picture is None else table.picture(row)
        if content is None:
            raise NotThereError(f"map {source}, row {row}: has no picture")
        return content

    def label(self, source: str, labelling: Labelling) -> Labelled:
        """Call points something else."""
        if source != "cases":
            raise InputError(
                f"map {source}: only cases can be called something else; send them to the cases first"
            )
        if not labelling.label.isprintable():
            raise InputError("label: holds what cannot be printed; give plain words")
        table = self._as_seen(source, labelling.fingerprint, labelling.rows)
        with self.served.lock.held():
            change = relabel(
                self.served.run_memory(), [table.ids[row] for row in labelling.rows], labelling.label
            )
        return Labelled(
            change=change.number,
            changed=len(change.before),
            fingerprint=self.drawn(source).columns.fingerprint,
        )

    def remember(self, source: str, sending: Sending) -> Remembered:
        """Send points to the cases."""
        table = self._as_seen(source, sending.fingerprint, sending.rows)
        if table.picked is None:
            raise InputError(f"map {source}: has no photographs that could be sent to the cases")
        picked: list[SelectedPhoto] = []
        made: list[Path] = []
        try:
            for row in dict.fromkeys(sending.rows):
                content = table.picked(row)
                path = Path(table.names[row])
                if isinstance(content, np.ndarray):
                    path = self.served.uploads.folder / f"{source}-{row}.png"
                    Image.fromarray(content).save(path)
                    made.append(path)
                picked.append(SelectedPhoto(path, table.names[row], sending.label or table.labels[row]))
            with self.served.lock.held():
                return Remembered(**remember_selected(self.served.run_memory(), picked))
        finally:
            for path in made:
                path.unlink(missing_ok=True)

    def undo(self, number: int) -> Relabelling:
        """Take a change of labels back."""
        with self.served.lock.held():
            return undo_relabelling(self.served.run_memory(), number)

    def _as_seen(self, source: str, fingerprint: str, rows: Sequence[int]) -> Table:
        """The table that a caller saw, whose rows mean what the caller means."""
        drawn = self.drawn(source)
        if drawn.columns.fingerprint != fingerprint:
            raise BusyError(f"map {source}: has changed since; fetch it anew")
        for row in rows:
            _checked(drawn, source, row)
        return drawn.table


def map_routes(maps: Maps) -> APIRouter:
    """The calls about maps; all in the thread that looks, for they open what it opens."""
    routes, do = APIRouter(tags=["maps"]), maps.served.worker.do

    @routes.get("/maps")
    async def sources() -> Sources:
        """Which maps there are."""
        return await do(maps.sources)

    @routes.get("/maps/{source}", response_model=MapColumns)
    async def columns(source: SourceInPath) -> Response:
        """A map, column by column."""
        drawn = await do(maps.drawn, source)
        return Response(drawn.columns.model_dump_json(), media_type="application/json")

    @routes.get("/maps/{source}/points/{row}")
    async def point(source: SourceInPath, row: Number) -> Point:
        """What there is to say of a point."""
        return await do(maps.point, source, row)

    @routes.get("/maps/{source}/points/{row}/picture", response_class=Response)
    async def picture(source: SourceInPath, row: Number) -> Response:
        """Its picture."""
        return png(await do(maps.picture, source, row))

    @routes.post("/maps/{source}/label")
    async def label(source: SourceInPath, labelling: Labelling) -> Labelled:
        """Call cases something else; the log keeps what they were called."""
        return await do(maps.label, source, labelling)

    @routes.post("/maps/{source}/remember")
    async def remember(source: SourceInPath, sending: Sending) -> Remembered:
        """Send points to the cases."""
        return await do(maps.remember, source, sending)

    @routes.get("/labels")
    async def labels() -> LabelChanges:
        """All changes of labels, in order."""
        changes = await do(read_relabellings, maps.served.folder)
        return LabelChanges(changes=[_change(each) for each in changes])

    @routes.post("/labels/{change}/undo")
    async def undo(change: Number) -> LabelChange:
        """Take a change of labels back."""
        return _change(await do(maps.undo, change))

    return routes


def packed(values: NDArray[Any], kind: str) -> str:
    """A column as base64 of little-endian numbers.

    Example:
        >>> packed(np.array([1, 258]), "<u2")
        'AQACAQ=='
    """
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode("ascii")


def _draw(source: str, fingerprint: str, table: Table) -> Drawn:
    if not len(table.vectors):
        raise InputError(f"map {source}: holds no vectors")
    projection = project(table.vectors)
    names = sorted(set(table.labels))
    if len(names) > MOST_LABELS:
        raise InputError(
            f"map {source}: has {len(names):,} labels; at most {MOST_LABELS:,} can be told apart"
        )
    place = {name: number for number, name in enumerate(names)}
    columns = MapColumns(
        source=source,
        fingerprint=fingerprint,
        count=len(table.vectors),
        axes=list(projection.axis_names),
        note=projection.note,
        x=packed(projection.points[:, 0], "<f4"),
        y=packed(projection.points[:, 1], "<f4"),
        label=packed(np.array([place[label] for label in table.labels]), "<u2"),
        labels=names,
        verdict=packed(table.verdict, "<u1"),
        verdicts=list(table.verdicts),
        distance=packed(table.distance, "<f4"),
        distance_name=table.distance_name,
    )
    return Drawn(table, columns, table.verdict, table.distance)


def _checked(drawn: Drawn, source: str, row: int) -> Table:
    if row >= len(drawn.table.vectors):
        raise NotThereError(f"map {source}, row {row}: there are {drawn.columns.count:,}, counted from 0")
    return drawn.table


def _changed(path: Path) -> object:
    try:
        about = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    return about.st_mtime_ns, about.st_size


def _change(change: Relabelling) -> LabelChange:
    return LabelChange(
        change=change.number,
        label=change.label,
        cases=len(change.before),
        who=change.who,
        when=change.when,
        undone=change.undone,
    )
