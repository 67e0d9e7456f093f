"""The calls of the page, as a script makes them."""

import io

import numpy as np
import pytest
from PIL import Image

from pages import calling, column, error_of, events, photo_of, until
from parts import QUADRANTS, held_elsewhere, part, save

pytest.importorskip("fastapi")
pytest.importorskip("lancedb")


@pytest.fixture(scope="module")
def remembering(calibrated_once, ok, ng, tmp_path_factory):
    """A calibrated run that remembers its parts: it is never changed."""
    import shutil

    from mekiki.cases.remember import remember
    from mekiki.cases.run_memory import RunMemory

    run = shutil.copytree(calibrated_once, tmp_path_factory.mktemp("remembering") / "run")
    remember(RunMemory(run), [ng, ok])
    return run


@pytest.fixture(scope="module")
def reader(remembering, tmp_path_factory):
    """A client that changes nothing but what it uploads."""
    folder = tmp_path_factory.mktemp("vectors")
    rng = np.random.default_rng(0)
    path = folder / "own.npz"
    vectors = rng.normal(size=(30, 5)).astype(np.float32)
    np.savez(path, vectors=vectors, labels=np.array(["a", "b"] * 15))
    with calling(remembering, vectors=path) as client:
        yield client


@pytest.fixture
def client(remembering, tmp_path):
    """A client with a run of its own."""
    import shutil

    with calling(shutil.copytree(remembering, tmp_path / "own")) as client:
        client.run = tmp_path / "own"
        yield client


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """A photograph of a part with a blot, which nobody remembers."""
    return save(tmp_path_factory.mktemp("bad") / "bad.png", part(5000, blot=QUADRANTS[0]))


def uploaded(client, path):
    """The id of a photograph that is kept."""
    (photo,) = client.post("/api/photos", files=[photo_of(path)]).json()["photos"]
    return photo["photo"]


def judged(client, *paths, cases=0):
    answer = client.post(f"/api/judge?cases={cases}", files=[photo_of(path) for path in paths])
    assert answer.status_code == 200, answer.text
    return answer.json()["verdicts"]


def test_the_run_says_what_it_can_do(reader):
    result = reader.get("/api/run").json()
    assert result["can"] == {
        "trained": False,
        "calibrated": True,
        "remembers": True,
        "reads_notes": False,
        "describes": False,
        "answers": False,
    }
    assert result["counts"]["cases"] == 76
    assert result["kinds"] == ["blot", "scratch"]
    assert "OK parts" in result["guarantee"]["en"]
    assert "良品" in result["guarantee"]["ja"]
    rate = f"{100 * result['false_reject']:g} %"
    assert all(rate in said for said in result["guarantee"].values())


def test_a_change_gives_up_soon_where_a_command_is_at_work_and_judging_goes_on(client, bad, monkeypatch):
    from mekiki.web import state

    monkeypatch.setattr(state, "LOCK_TIMEOUT_S", 0.1)
    photo, before = uploaded(client, bad), judged(client, bad)[0]["verdict"]
    with held_elsewhere(client.run, "teaching"):
        said = error_of(client.post("/api/teach", json={"photo": photo, "label": "OK"}), 409)
        assert "is teaching" in said
        assert judged(client, bad)[0]["verdict"] == before
    assert client.post("/api/teach", json={"photo": photo, "label": "OK"}).status_code == 200


def test_every_call_is_described_for_programs_and_for_people(reader):
    schema = reader.get("/api/openapi.json").json()
    calls = [(path, call) for path, calls in schema["paths"].items() for call in calls.values()]
    assert len(calls) > 30
    assert all(call.get("description") for _, call in calls)
    page = reader.get("/api/docs").text
    assert all(path in page for path in schema["paths"])


def test_the_page_and_its_scripts_are_served(reader):
    page = reader.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "<script>" not in page.text
    for name in ("main.js", "map.js", "page.css"):
        assert reader.get(f"/static/{name}").status_code == 200
    assert error_of(reader.get("/static/no.js"), 404)
    assert error_of(reader.get("/nothing"), 404)


def test_a_verdict_is_that_of_the_command_line(reader, mekiki, remembering, bad, fresh):
    photographs = [bad, *sorted(fresh.iterdir())[:4]]
    rows = mekiki("judge", remembering, *photographs, "--json").json["verdicts"]
    by_name = {row["file"].rpartition("/")[2]: row for row in rows}
    for verdict in judged(reader, *photographs):
        own = by_name[verdict["file"]]
        assert {name: verdict[name] for name in own if name != "file"} == {
            name: value for name, value in own.items() if name != "file"
        }


def test_a_defect_is_shown_where_it_is(reader, bad):
    (verdict,) = judged(reader, bad)
    assert verdict["verdict"] == "NG"
    heat = verdict["heat"]
    values = np.array(heat["values"])
    assert values.shape == (heat["rows"], heat["columns"])
    row, column_ = np.unravel_index(values.argmax(), values.shape)
    assert (row < heat["rows"] / 2, column_ < heat["columns"] / 2) == (True, True), "the blot is upper left"
    picture = Image.open(io.BytesIO(reader.get(f"/api/photos/{verdict['photo']}/picture").content))
    assert picture.size == (verdict["width"], verdict["height"])
    for example in (verdict["ok_example"], verdict["ng_example"]):
        assert reader.get(f"/api/examples/{example}/picture").content.startswith(b"\x89PNG")
    named = reader.get("/api/examples").json()["examples"]
    assert named[verdict["ng_example"]]["kind"] == verdict["kind"]


def test_past_cases_come_with_a_verdict_where_they_are_asked_for(reader, bad):
    (verdict,) = judged(reader, bad, cases=3)
    assert [row["rank"] for row in verdict["cases"]] == [1, 2, 3]
    distances = [row["distance"] for row in verdict["cases"]]
    assert distances == sorted(distances)


def test_an_unreadable_photograph_is_a_verdict_and_stops_no_other(reader, bad, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(bad.read_bytes()[:200])
    text = tmp_path / "text.png"
    text.write_text("no picture")
    first, second, third = judged(reader, broken, bad, text)
    assert (first["verdict"], second["verdict"], third["verdict"]) == ("unreadable", "NG", "unreadable")
    assert third["photo"] is None
    assert "no photograph" in third["problem"]


def test_the_histogram_is_of_the_parts_that_set_the_threshold(reader, remembering):
    from mekiki.judging.judge_photos import Inspector

    inspector = Inspector.open(remembering)
    result = reader.get("/api/judge/histogram").json()
    assert sum(result["counts"]) == len(inspector.judge.calibration_scores)
    assert len(result["edges"]) == len(result["counts"]) + 1
    assert result["false_reject"] == 0.1


def test_what_is_taught_holds_at_once_and_is_taken_back_exactly(client, bad):
    (before,) = judged(client, bad)
    lesson = client.post("/api/teach", json={"photo": before["photo"], "label": "OK"}).json()
    assert (lesson["before"], lesson["after"]["verdict"]) == ("NG", "OK")
    assert lesson["lesson"]["file"] == "bad.png"
    (taught,) = judged(client, bad)
    assert (taught["verdict"], taught["lesson"]) == ("OK", lesson["lesson"]["number"])
    number = lesson["lesson"]["number"]
    assert client.post(f"/api/teach/{number}/undo").json()["undone"]
    assert judged(client, bad) == [before]
    assert error_of(client.post(f"/api/teach/{number}/undo"), 400)
    assert [each["undone"] for each in client.get("/api/lessons").json()["lessons"]] == [True]


def test_maps_tell_every_vector(reader):
    sources = {each["source"]: each for each in reader.get("/api/maps").json()["maps"]}
    assert set(sources) == {"judge", "cases", "vectors"}
    for source, about in sources.items():
        result = reader.get(f"/api/maps/{source}").json()
        count = result["count"]
        assert count == about["count"]
        assert result["fingerprint"] == about["fingerprint"]
        for name, kind in (
            ("x", "<f4"),
            ("y", "<f4"),
            ("label", "<u2"),
            ("verdict", "u1"),
            ("distance", "<f4"),
        ):
            assert len(column(result[name], kind)) == count, name
        assert column(result["label"], "<u2").max() < len(result["labels"])
        point = reader.get(f"/api/maps/{source}/points/{count - 1}").json()
        assert point["label"] == result["labels"][column(result["label"], "<u2")[-1]]
        answer = reader.get(f"/api/maps/{source}/points/0/picture")
        if about["pictures"]:
            assert answer.content.startswith(b"\x89PNG")
        else:
            error_of(answer, 404)
        error_of(reader.get(f"/api/maps/{source}/points/{count}"), 404)


def test_ok_parts_lie_nearer_the_middle_than_bad_ones(reader):
    result = reader.get("/api/maps/judge").json()
    ok = np.array(result["verdicts"])[column(result["verdict"], "u1")] == "OK"
    distance = column(result["distance"], "<f4")
    assert np.median(distance[ok]) < np.median(distance[~ok])


def test_cases_are_called_something_else_and_back(client):
    result = client.get("/api/maps/cases").json()
    before = [client.get(f"/api/maps/cases/points/{row}").json()["label"] for row in (0, 1)]
    asked = {"fingerprint": result["fingerprint"], "rows": [0, 1], "label": "dent"}
    change = client.post("/api/maps/cases/label", json=asked).json()
    assert change["changed"] == 2
    assert [client.get(f"/api/maps/cases/points/{row}").json()["label"] for row in (0, 1)] == ["dent", "dent"]
    assert "again" in error_of(client.post("/api/maps/cases/label", json=asked), 409), (
        "its rows may mean others"
    )
    assert client.post(f"/api/labels/{change['change']}/undo").json()["undone"]
    assert [client.get(f"/api/maps/cases/points/{row}").json()["label"] for row in (0, 1)] == before
    error_of(client.post(f"/api/labels/{change['change']}/undo"), 400)
    (line,) = client.get("/api/labels").json()["changes"]
    assert (line["label"], line["cases"], line["undone"]) == ("dent", 2, True)


def test_only_cases_can_be_called_something_else(reader):
    fingerprint = reader.get("/api/maps/judge").json()["fingerprint"]
    asked = {"fingerprint": fingerprint, "rows": [0], "label": "x"}
    assert "cases first" in error_of(reader.post("/api/maps/judge/label", json=asked), 400)
    own = reader.get("/api/maps/vectors").json()["fingerprint"]
    error_of(reader.post("/api/maps/vectors/remember", json={"fingerprint": own, "rows": [0]}), 400)


def test_points_are_sent_to_the_cases(run):
    with calling(run) as client:
        error_of(client.get("/api/maps/cases"))
        fingerprint = client.get("/api/maps/judge").json()["fingerprint"]
        asked = {"fingerprint": fingerprint, "rows": [0, 1, 2]}
        assert client.post("/api/maps/judge/remember", json=asked).json() == {
            "cases": 3,
            "new": 3,
            "unreadable": 0,
        }
        assert client.post("/api/maps/judge/remember", json=asked).json()["new"] == 0
        assert client.get("/api/maps/cases").json()["count"] == 3
        assert client.get("/api/run").json()["counts"]["cases"] == 3


def test_a_photograph_is_kept_as_a_case_and_found_again(client, bad):
    photo = uploaded(client, bad)
    kept = client.post(
        "/api/remember", json={"photos": [{"photo": photo, "label": "blot", "note": "new die"}]}
    )
    assert kept.json() == {"cases": 1, "new": 1, "unreadable": 0}
    near = client.post("/api/search", json={"photo": photo, "k": 76}).json()["found"]
    assert "bad.png" not in {row["image"] for row in near}, "what is asked is no answer"
    stats = client.get("/api/cases").json()
    assert stats["images"]["cases"] == 77


def test_thumbs_hold_and_are_taken_back_exactly(client, bad):
    asked = {"photo": uploaded(client, bad), "k": 10}
    before = client.post("/api/search", json=asked).json()
    wrong = before["found"][0]["id"]
    said = client.post("/api/feedback", json={"photo": asked["photo"], "good": [], "bad": [wrong]}).json()
    assert said["feedback"][0]["asked"] == "bad.png"
    after = client.post("/api/search", json=asked).json()
    moved = {row["id"]: row["shift"] for row in after["found"]}
    assert moved.get(wrong, 1) > 0, "it is farther away"
    assert after["feedback"] == 1
    assert client.post(f"/api/feedback/{said['feedback'][0]['go']}/undo").json()["feedback"][0]["undone"]
    assert client.post("/api/search", json=asked).json() == before
    error_of(client.post(f"/api/feedback/{said['feedback'][0]['go']}/undo"), 400)


def test_one_case_in_full(reader, bad):
    (first, *_) = reader.post("/api/search", json={"photo": uploaded(reader, bad)}).json()["found"]
    facts = reader.get(f"/api/cases/{first['id']}").json()
    assert (facts["label"], facts["picture"]) == (first["label"], True)
    assert reader.get(f"/api/cases/{first['id']}/picture").content.startswith(b"\x89PNG")


def test_search_keeps_to_a_condition(reader, bad):
    asked = {"photo": uploaded(reader, bad), "where": "label = 'scratch'"}
    found = reader.post("/api/search", json=asked).json()["found"]
    assert {row["label"] for row in found} == {"scratch"}


def test_a_template_speaks_where_nothing_has_learnt_to(reader, bad):
    asked = {"photo": uploaded(reader, bad), "language": "ja"}
    answer = reader.post("/api/describe", json=asked)
    assert answer.headers["content-type"].startswith("text/event-stream")
    said = events(answer.text)
    assert [name for name, _ in said] == ["speaker", "text", "cases", "end"]
    assert said[0][1] == {"method": "template", "language": "ja"}
    assert "定型文" in said[1][1]["text"]
    assert [row["rank"] for row in said[2][1]["cases"]] == [1, 2, 3]
    assert "language model" in error_of(reader.post("/api/describe", json=asked | {"question": "why?"}), 400)


def test_a_damaged_photograph_is_called_by_its_own_name(reader, bad, tmp_path):
    broken = tmp_path / "half.png"
    broken.write_bytes(bad.read_bytes()[:-600])
    photo = uploaded(reader, broken)
    assert photo, "its header can be read"
    for call, more in (
        ("describe", {}),
        ("search", {}),
        ("teach", {"label": "OK"}),
        ("feedback", {"good": ["x"]}),
    ):
        assert "half.png" in error_of(reader.post(f"/api/{call}", json={"photo": photo} | more), 400), call
    assert "half.png" in error_of(reader.get(f"/api/photos/{photo}/picture"), 400)


def test_a_run_that_remembers_nothing_says_so(run):
    with calling(run) as client:
        assert client.get("/api/cases").json() == {
            "images": None,
            "notes": None,
            "feedback": {"in_force": 0, "all": 0},
        }
        assert not client.get("/api/run").json()["can"]["remembers"]


NOBODY = "0" * 32
WRONG = [
    ("GET", "/api/maps/nothing", None),
    ("GET", "/api/maps/..%2f..%2fetc", None),
    ("GET", "/api/maps/judge/points/-1", None),
    ("GET", "/api/maps/judge/points/99999999999", None),
    ("GET", "/api/examples/100000", None),
    ("GET", f"/api/photos/{NOBODY}/picture", None),
    ("GET", "/api/photos/..%2fx/picture", None),
    ("GET", "/api/cases/nobody", None),
    ("GET", "/api/cases/nobody/picture", None),
    ("GET", "/api/cases/' OR 1=1 --", None),
    ("GET", "/api/trainings/none", None),
    ("GET", "/api/trainings/none/epochs", None),
    ("GET", "/api/trainings/none/events", None),
    ("POST", "/api/trainings/none/stop", None),
    ("POST", "/api/trainings/none/resume", None),
    ("POST", "/api/labels/1/undo", None),
    ("POST", "/api/feedback/1/undo", None),
    ("POST", "/api/teach/1/undo", None),
    ("POST", "/api/judge", None),
    ("POST", "/api/photos", {}),
    ("POST", "/api/search", {}),
    ("POST", "/api/search", {"text": "crack"}),
    ("POST", "/api/search", {"photo": NOBODY}),
    ("POST", "/api/search", {"photo": NOBODY, "text": "both"}),
    ("POST", "/api/search", {"photo": "../../etc/passwd"}),
    ("POST", "/api/search", {"like": ["nobody"]}),
    ("POST", "/api/search", {"photo": NOBODY, "where": "label = "}),
    ("POST", "/api/search", {"unknown": 1}),
    ("POST", "/api/feedback", {"photo": NOBODY, "good": ["a"]}),
    ("POST", "/api/feedback", {}),
    ("POST", "/api/teach", {"photo": NOBODY, "label": "OK"}),
    ("POST", "/api/teach", {"photo": NOBODY}),
    ("POST", "/api/remember", {"photos": []}),
    ("POST", "/api/remember", {"photos": [{"photo": NOBODY}]}),
    ("POST", "/api/describe", {"photo": NOBODY}),
    ("POST", "/api/describe", {"photo": NOBODY, "language": "fr"}),
    ("POST", "/api/maps/cases/label", {"fingerprint": "old", "rows": [0], "label": "x"}),
    ("POST", "/api/maps/cases/label", {"fingerprint": "old", "rows": [], "label": "x"}),
    ("POST", "/api/maps/cases/remember", {"fingerprint": "old", "rows": [0]}),
    ("POST", "/api/trainings", {"data": "nothing-of-that-name"}),
    ("POST", "/api/trainings", {"data": "/etc"}),
    ("POST", "/api/trainings", {"data": "../.."}),
    ("POST", "/api/trainings", {"data": "digits", "loss": "nonsense"}),
    ("POST", "/api/trainings", {"data": "digits", "recipe": "nonsense"}),
    ("POST", "/api/trainings", {"data": "digits", "encoder": "hf:/etc"}),
    ("POST", "/api/trainings", {"data": "digits", "encoder": "hf:some/model"}),
    ("POST", "/api/trainings", {"data": "digits", "epochs": 0}),
    ("DELETE", "/api/run", None),
    ("PUT", "/api/judge", None),
]


@pytest.mark.parametrize(("method", "path", "body"), WRONG)
def test_a_wrong_call_is_refused_in_one_line(reader, method, path, body):
    error_of(reader.request(method, path, json=body))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"photo": NaN}', b"\xff\xfe", b"1" * 5000])
def test_a_body_that_is_no_json_is_refused_in_one_line(reader, body):
    error_of(reader.post("/api/search", content=body, headers={"Content-Type": "application/json"}))


def test_a_case_label_is_plain_words(client, bad):
    (verdict,) = judged(client, bad)
    for label in ("OK:scratch", "maybe", "NG:a\x00b", "  "):
        error_of(client.post("/api/teach", json={"photo": verdict["photo"], "label": label}))
    assert client.get("/api/lessons").json()["lessons"] == []


@pytest.fixture
def trained(tmp_path):
    """A client of a folder with nothing in it, which trainings can be started in."""
    folder = tmp_path / "empty"
    folder.mkdir()
    with calling(folder) as client:
        client.run = folder
        yield client


QUICK = {"data": "digits", "epochs": 3, "per_class": 40, "batch_size": 32}


@pytest.mark.slow
def test_a_training_is_started_watched_and_looked_at(trained):
    choices = trained.get("/api/trainings/choices").json()
    assert "digits" in choices["data"]
    assert "contrastive" in choices["losses"]
    begun = trained.post("/api/trainings", json=QUICK)
    assert begun.status_code == 201, begun.text
    name = begun.json()["id"]
    assert begun.json()["state"] == "running"
    assert "running" in error_of(trained.post("/api/trainings", json=QUICK), 409)
    assert "running" in error_of(trained.post(f"/api/trainings/{name}/resume"), 409)
    said = events(trained.get(f"/api/trainings/{name}/events").text)
    (images,) = [data for kind, data in said if kind == "images"]
    epochs = [data for kind, data in said if kind == "epoch"]
    assert [data["epoch"] for data in epochs] == [1, 2, 3]
    assert [kind for kind, _ in said][-1] == "state"
    assert said[-1][1]["state"] == "finished"
    points = [column(data["points"], "<f4") for data in epochs]
    assert all(len(each) == 2 * images["count"] for each in points)
    facts = trained.get(f"/api/trainings/{name}").json()
    assert facts["history"]["train_loss"] == [data["row"]["train_loss"] for data in epochs]
    assert facts["metrics"]["knn5_accuracy"] > 0.3
    kept = trained.get(f"/api/trainings/{name}/epochs").json()
    assert column(kept["points"], "<f4").tolist() == np.concatenate(points).tolist()
    again = events(trained.get(f"/api/trainings/{name}/events", headers={"Last-Event-ID": "2"}).text)
    assert [data["epoch"] for kind, data in again if kind == "epoch"] == [3]
    (source,) = trained.get("/api/maps").json()["maps"]
    assert source["source"] == f"training-{name}"
    assert trained.get(f"/api/maps/{source['source']}/points/0/picture").content.startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_training_that_was_stopped_goes_on_to_the_same_end(trained):
    long = QUICK | {"epochs": 40}
    whole = trained.post("/api/trainings", json=long).json()["id"]
    trained.get(f"/api/trainings/{whole}/events")
    cut = trained.post("/api/trainings", json=long).json()["id"]
    assert cut != whole
    until(lambda: trained.get(f"/api/trainings/{cut}").json(), lambda result: result["done"] >= 2)
    stopped = trained.post(f"/api/trainings/{cut}/stop").json()
    assert (stopped["state"], stopped["can_resume"]) == ("stopped", True)
    assert 2 <= stopped["done"] < 40
    error_of(trained.post(f"/api/trainings/{cut}/stop"), 409)
    assert trained.post(f"/api/trainings/{cut}/resume").json()["state"] == "running"
    trained.get(f"/api/trainings/{cut}/events")
    one, other = (trained.get(f"/api/trainings/{name}").json() for name in (whole, cut))
    assert other["state"] == "finished"
    assert one["history"]["val_loss"] == other["history"]["val_loss"]
    one, other = (trained.get(f"/api/trainings/{name}/epochs").json() for name in (whole, cut))
    assert one["points"] == other["points"]


@pytest.mark.slow
def test_a_training_that_cannot_go_on_says_why(trained, tmp_path):
    (trained.run / "data").mkdir()
    save(trained.run / "data" / "a" / "1.png", part(1))
    name = trained.post("/api/trainings", json={"data": "data"}).json()["id"]
    said = events(trained.get(f"/api/trainings/{name}/events").text)
    assert said[-1][1]["state"] == "failed"
    assert said[-1][1]["message"]
    assert "Traceback" not in said[-1][1]["message"]


@pytest.mark.slow
def test_words_stream_from_a_describer_in_the_language_asked_for(remembering, tmp_path):
    import csv
    import shutil

    from mekiki.describing.describe import RunDescriber
    from mekiki.describing.part_training import TrainConfig
    from mekiki.describing.train_describer import train_describer

    run = shutil.copytree(remembering, tmp_path / "speaking")
    rows = []
    for number in range(96):
        corner, kind = QUADRANTS[number // 2 % 4], ("blot", "scratch")[number % 2]
        place = ("upper left", "upper right", "lower left", "lower right")[number // 2 % 4]
        save(tmp_path / "described" / f"{number:03}.png", part(5000 + number, **{kind: corner}))
        said = f"There is a {kind} in the {place}."
        rows.append([f"{number:03}.png", said, "en", kind, place, "severe", "the press", "grind it"])
    with (tmp_path / "described" / "texts.csv").open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["file", "text", "language", "defect", "place", "severity", "cause", "repair"])
        writer.writerows(rows)
    train_describer(
        run,
        tmp_path / "described" / "texts.csv",
        config=TrainConfig(epochs=5, batch=8, rate=3e-3),
    )
    with calling(run) as client:
        assert client.get("/api/run").json()["can"]["describes"]
        photo = uploaded(client, tmp_path / "described" / "001.png")
        said = events(client.post("/api/describe", json={"photo": photo}).text)
        text = "".join(data["text"] for name, data in said if name == "text")
        assert text.startswith("There is a")
        assert sum(name == "text" for name, _ in said) > 3, "it comes piece by piece"
        assert said[0] == ("speaker", {"method": "decoder", "language": "en"})
        assert said[-1][0] == "end"
        (cases,) = [data["cases"] for name, data in said if name == "cases"]
        explainer = RunDescriber(run)
        (subject,) = explainer.read_photos([tmp_path / "described" / "001.png"])
        assert [case["id"] for case in cases] == explainer.report(subject)["cases"]
        other = events(client.post("/api/describe", json={"photo": photo, "language": "ja"}).text)
        assert other[0][1]["language"] == "en", "it learnt no Japanese, so it does not pretend to"
