"""What goes over the wire: the JSON of every request and answer, from which OpenAPI is made."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Row = Annotated[int, Field(ge=0, lt=2**31)]
Label = Annotated[str, Field(min_length=1, max_length=200)]
CaseId = Annotated[str, Field(min_length=1, max_length=200)]
PhotoId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Column = Annotated[str, Field(description="base64 of little-endian numbers")]


class Given(BaseModel):
    """A request; a field that is not known is refused rather than passed over."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Problem(BaseModel):
    """Every error."""

    error: str = Field(description="one line: what, where and what to do")


class Abilities(BaseModel):
    """What a run folder can do."""

    trained: bool
    calibrated: bool
    remembers: bool
    reads_notes: bool
    describes: bool = Field(description="a describer has learnt; without one a template speaks")
    answers: bool = Field(description="questions of one's own, by a language model")


class Limits(BaseModel):
    """What may be uploaded."""

    bytes: int
    pixels: int
    files: int


class RunFacts(BaseModel):
    """The run that is served."""

    name: str
    version: str
    can: Abilities
    encoder: str
    guarantee: dict[str, str] = Field(
        description="what the threshold promises, by language; empty without a judge"
    )
    threshold: float | None
    false_reject: float | None
    classes: list[str]
    kinds: list[str]
    counts: dict[str, int]
    languages: list[str]
    limits: Limits
    folders: list[str] = Field(description="folders listed with --allow, which data may be named in")
    csrf: str = Field(description="goes with every POST as the header X-Mekiki-CSRF")


class Source(BaseModel):
    """One map there is."""

    source: str
    title: str
    count: int
    dimension: int
    fingerprint: str = Field(description="as in the map; another one when it has changed")
    pictures: bool
    can_label: bool
    can_remember: bool


class Sources(BaseModel):
    """All maps there are."""

    maps: list[Source]


class MapColumns(BaseModel):
    """A map, column by column."""

    source: str
    fingerprint: str = Field(description="another one when a row may mean another point")
    count: int
    axes: list[str]
    note: str
    x: Column = Field(description="base64, float32")
    y: Column = Field(description="base64, float32")
    label: Column = Field(description="base64, uint16, a position in labels")
    labels: list[str]
    verdict: Column = Field(description="base64, uint8, a position in verdicts")
    verdicts: list[str]
    distance: Column = Field(description="base64, float32, NaN where unknown")
    distance_name: str


class Point(BaseModel):
    """What there is to say of one point of a map."""

    row: int
    id: str
    name: str
    label: str
    verdict: str
    distance: float | None
    picture: bool
    facts: dict[str, str]


class Labelling(Given):
    """Give points another label."""

    fingerprint: str = Field(max_length=64)
    rows: list[Row] = Field(min_length=1, max_length=100_000)
    label: Label


class Labelled(BaseModel):
    """What came of it."""

    change: int = Field(description="its number, by which it is taken back")
    changed: int
    fingerprint: str


class Sending(Given):
    """Send points to the cases."""

    fingerprint: str = Field(max_length=64)
    rows: list[Row] = Field(min_length=1, max_length=10_000)
    label: str | None = Field(None, max_length=200, description="left out, each keeps its own")


class Remembered(BaseModel):
    """What is remembered now."""

    cases: int
    new: int
    unreadable: int


class LabelChange(BaseModel):
    """One change of labels."""

    change: int
    label: str
    cases: int
    who: str
    when: str
    undone: bool


class LabelChanges(BaseModel):
    """All changes of labels, in order."""

    changes: list[LabelChange]


class Photo(BaseModel):
    """A photograph that was uploaded and is kept for this session."""

    photo: str | None = Field(description="its id; null if it could not be read")
    file: str
    height: int
    width: int
    problem: str


class Photos(BaseModel):
    """Photographs, in the order in which they came."""

    photos: list[Photo]


class CaseRow(BaseModel):
    """A past case as a search found it."""

    rank: int
    id: str
    distance: float
    shift: float = Field(description="what feedback added to the distance; negative is nearer")
    label: str
    note: str
    image: str
    who: str
    time: str
    run: str
    encoder: str


class Heat(BaseModel):
    """Where a photograph departs: a grid over the whole of it."""

    rows: int
    columns: int
    values: list[list[float]]


class Judged(BaseModel):
    """A verdict; the first eleven fields are those of `mekiki judge --json`."""

    file: str
    verdict: Literal["OK", "NG", "unreadable"]
    score: float | None
    p: float | None
    threshold: float | None
    why: str
    kind: str
    like_ok: str
    like_ng: str
    problem: str
    note: str
    photo: str | None = Field(description="id of the photograph, for its picture and to teach it")
    height: int
    width: int
    heat: Heat | None
    ok_example: int | None = Field(description="number of like_ok among the examples")
    ng_example: int | None
    because: Literal["view", "lesson", "taught"] = Field(
        description="why names the view most surprised, what was taught that it is like, or what it was taught as"
    )
    lesson: int | None = Field(description="the lesson that says so of this very photograph")
    cases: list[CaseRow]


class Judgements(BaseModel):
    """Verdicts, in the order in which photographs came."""

    verdicts: list[Judged]


class Histogram(BaseModel):
    """The scores of OK parts that set the threshold."""

    edges: list[float]
    counts: list[int]
    threshold: float | None
    false_reject: float


class Example(BaseModel):
    """A part kept to be compared with."""

    example: int
    name: str
    kind: str


class Examples(BaseModel):
    """All of them."""

    examples: list[Example]


class Teaching(Given):
    """Tell the judge what a photograph is."""

    photo: PhotoId
    label: Label = Field(description="OK, NG, or NG:KIND")


class Lesson(BaseModel):
    """One lesson in the book."""

    number: int
    ng: bool
    kind: str
    file: str
    who: str
    when: str
    before: str
    undone: bool


class Taught(BaseModel):
    """A lesson, and the verdict that follows from it."""

    lesson: Lesson
    before: str
    after: Judged


class Lessons(BaseModel):
    """All lessons in order, those taken back too."""

    lessons: list[Lesson]


class Query(Given):
    """Search the cases; give a photograph or a text, or only what it should be like."""

    photo: PhotoId | None = None
    text: str | None = Field(None, max_length=4000)
    k: int = Field(10, ge=1, le=200)
    where: str | None = Field(None, max_length=10_000)
    like: list[CaseId] = Field([], max_length=100)
    unlike: list[CaseId] = Field([], max_length=100)


class Found(BaseModel):
    """Cases, the foremost first."""

    query: str
    space: str
    feedback: int
    found: list[CaseRow]


class Thumbs(Given):
    """Say which cases a query should have found and which not."""

    photo: PhotoId | None = None
    text: str | None = Field(None, max_length=4000)
    good: list[CaseId] = Field([], max_length=200)
    bad: list[CaseId] = Field([], max_length=200)


class Thumb(BaseModel):
    """One judgement of one case."""

    number: int
    go: int
    space: str
    asked: str
    case: str
    good: bool
    who: str
    when: str
    undone: bool


class Said(BaseModel):
    """Judgements of cases, in order."""

    feedback: list[Thumb]


class ToRemember(Given):
    """One photograph to keep as a case."""

    photo: PhotoId
    label: str = Field("", max_length=200)
    note: str = Field("", max_length=4000)


class Remembering(Given):
    """Photographs to keep as cases."""

    photos: list[ToRemember] = Field(min_length=1, max_length=500)


class CaseStats(BaseModel):
    """What is remembered: by space `images` and `notes`, as `mekiki cases stats --json`."""

    images: dict[str, Any] | None
    notes: dict[str, Any] | None
    feedback: dict[str, int]


class CaseFacts(BaseModel):
    """One case."""

    id: str
    label: str
    note: str
    image: str
    who: str
    time: str
    run: str
    encoder: str
    picture: bool


class Describing(Given):
    """Ask for words."""

    photo: PhotoId
    question: str | None = Field(None, max_length=2000)
    language: Literal["en", "ja"] = "en"


class TrainingRequest(Given):
    """What to train, as the options of `mekiki train`."""

    data: str = Field(min_length=1, max_length=1000)
    recipe: str = Field("post", max_length=40)
    loss: str | None = Field(None, max_length=80)
    encoder: str | None = Field(None, max_length=1000)
    dim: int | None = Field(None, ge=1, le=4096)
    margin: float | None = Field(None, gt=0, le=1e6)
    epochs: int | None = Field(None, ge=1, le=10_000)
    batch_size: int | None = Field(None, ge=2, le=65_536)
    lr: float | None = Field(None, gt=0, le=100)
    per_class: int | None = Field(None, ge=2, le=1_000_000)
    size: int | None = Field(None, ge=4, le=1024)
    seed: int = Field(0, ge=0, lt=2**31)


class Training(BaseModel):
    """One training."""

    id: str
    state: Literal["running", "finished", "stopped", "failed"]
    message: str = Field(description="why it failed, in one line")
    settings: dict[str, Any]
    epochs: int | None = Field(description="asked for")
    done: int = Field(description="epochs done")
    snapshots: int = Field(description="epochs whose positions are kept")
    can_resume: bool


class Trainings(BaseModel):
    """All trainings of this run, the newest last."""

    trainings: list[Training]


class TrainingFacts(Training):
    """One training, with what it came to."""

    history: dict[str, list[float | None]]
    findings: list[dict[str, Any]]
    metrics: dict[str, Any] | None


class Epochs(BaseModel):
    """Where the same images lay after each epoch."""

    count: int
    epochs: int
    points: Column = Field(description="base64, float32 [epochs, count, 2]")
    label: Column = Field(description="base64, uint16, a position in labels")
    labels: list[str]
    note: str


class Choices(BaseModel):
    """What may be chosen for a training."""

    recipes: list[str]
    losses: list[str]
    encoders: list[str]
    data: list[str] = Field(description="data sets by name that are there, and folders under --allow")
