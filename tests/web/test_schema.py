"""Calls that schemathesis makes up from the page's own OpenAPI, right ones and wrong ones: none may fail or hang."""

import shutil
import time

import pytest

from pages import calling, photo_of
from parts import QUADRANTS, part, save

pytest.importorskip("fastapi")
pytest.importorskip("lancedb")
schemathesis = pytest.importorskip("schemathesis")

SLOWEST = 20.0
"""Seconds that no answer may take, on a machine that is busy."""
TRAINS = "/api/trainings"


@pytest.fixture(scope="module")
def page(calibrated_once, ng, tmp_path_factory):
    """A client of a run that made-up calls may change, one photograph kept."""
    from mekiki.cases.remember import remember
    from mekiki.cases.run_memory import RunMemory

    folder = tmp_path_factory.mktemp("schema")
    run = shutil.copytree(calibrated_once, folder / "run")
    remember(RunMemory(run), [ng])
    with calling(run) as client:
        photo = save(folder / "bad.png", part(5000, blot=QUADRANTS[0]))
        client.post("/api/photos", files=[photo_of(photo)])
        yield client


def made_up(page, each):
    """Make up `each` calls of every operation and look at what is answered; how many were made, and what was wrong."""
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.generation import GenerationMode

    schema = schemathesis.openapi.from_dict(page.app.openapi())
    made, wrong = 0, []

    def call(case):
        nonlocal made
        made += 1
        sent = case.as_transport_kwargs(base_url=str(page.base_url))
        sent = {name: value for name, value in sent.items() if value is not None and name != "cookies"}
        sent["headers"] = {**dict(sent.get("headers") or {}), "X-Mekiki-CSRF": page.headers["X-Mekiki-CSRF"]}
        begun = time.perf_counter()
        answer = page.request(**sent)
        took = time.perf_counter() - begun
        about = f"{case.method} {case.path} {answer.status_code} {answer.text[:200]}"
        if answer.status_code >= 500 or took > SLOWEST:
            wrong.append(f"{about} ({took:.1f} s)")
        elif answer.status_code >= 400 and set(answer.json()) != {"error"}:
            wrong.append(about)

    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path == TRAINS and operation.method.upper() == "POST":
            continue  # a right one of these starts a process; wrong ones are tried by hand
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            try:
                strategy = operation.as_strategy(generation_mode=mode)
            except Exception as error:
                if mode is GenerationMode.NEGATIVE:
                    continue  # there is nothing that a call without parameters could have wrong
                raise error
            few = settings(
                max_examples=each,
                database=None,
                deadline=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            try:
                few(given(strategy)(call))()
            except Exception as error:
                if type(error).__name__ not in ("Unsatisfiable", "SkipTest"):
                    raise
    return made, wrong


def test_made_up_calls_are_answered(page):
    made, wrong = made_up(page, 1)
    assert made >= 30
    assert wrong == []


@pytest.mark.slow
def test_three_hundred_made_up_calls_are_answered(page):
    made, wrong = made_up(page, 8)
    assert made >= 300
    assert wrong == []
