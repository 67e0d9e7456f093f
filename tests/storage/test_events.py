"""The append-only log with undo, against a plain list."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mekiki.errors import InputError
from mekiki.storage.events import EventLog, append_event

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.dictionaries(st.text(max_size=3), st.floats(allow_nan=False))),
        st.tuples(st.just("undo"), st.one_of(st.none(), st.integers(-1, 6))),
        st.tuples(st.just("crash"), st.integers(1, 40)),
    ),
    max_size=12,
)
NAMES = {"who", "when", "undo", "crc32"}


@settings(deadline=None, max_examples=60)  # every line is synced to the disk
@given(actions=ACTIONS)
def test_a_log_holds_what_was_appended_and_not_undone(tmp_path_factory, actions):
    log = EventLog(tmp_path_factory.mktemp("log") / "run" / "log.jsonl", "entry")
    entries = []  # [content, undone]
    for action, value in actions:
        if action == "append":
            content = {f"k{name}": number for name, number in value.items()}
            event = log.append(content, who="me")
            assert (event.number, event.undone) == (len(entries) + 1, False)
            entries.append([content, False])
        elif action == "undo":
            active = [number for number, (_, undone) in enumerate(entries, start=1) if not undone]
            number = (active[-1] if active else None) if value is None else value
            if number in active:
                assert log.undo(value).number == number
                entries[number - 1][1] = True
            else:
                before = log.path.read_bytes() if log.path.exists() else None
                with pytest.raises(InputError, match=r"is active|there is none|was undone before"):
                    log.undo(value)
                assert before == (log.path.read_bytes() if log.path.exists() else None)
        elif log.path.exists():  # a line whose writing was cut short
            line = json.dumps({"a": "目" * 20}, ensure_ascii=False).encode()
            log.path.write_bytes(log.path.read_bytes() + line[:value])
        events = log.events()
        assert [event.undone for event in events] == [undone for _, undone in entries]
        assert [event.number for event in events] == list(range(1, len(entries) + 1))
        plain = [{k: v for k, v in event.content.items() if k not in NAMES} for event in events]
        assert plain == [content for content, _ in entries]
        assert all(event.content["who"] == "me" and event.content["when"] for event in events)


def test_what_belongs_to_an_entry_is_written_before_its_line(tmp_path):
    log = EventLog(tmp_path / "log.jsonl", "entry")
    with pytest.raises(OSError, match="full"):
        log.append(lambda number: (_ for _ in ()).throw(OSError("full")))
    assert log.events() == []
    log.append({"a": 1})
    with pytest.raises(OSError, match="full"):
        log.undo(revert=lambda event: (_ for _ in ()).throw(OSError("full")))
    assert [event.undone for event in log.events()] == [False]


@pytest.mark.parametrize("number", [0, 2, "1", None])
def test_an_undo_of_no_entry_is_a_damaged_line(tmp_path, number):
    log = EventLog(tmp_path / "log.jsonl", "entry")
    log.append({"a": 1})
    append_event(log.path, {"undo": number, "who": "me", "when": "now"})
    with pytest.raises(InputError, match=r"log.jsonl, line 2: cannot be read"):
        log.events()


def test_a_record_that_cannot_be_made_names_its_line(tmp_path):
    log = EventLog(tmp_path / "log.jsonl", "entry")
    log.append({"a": 1})
    log.undo(1)
    log.append({})
    with pytest.raises(InputError, match=r"log.jsonl, line 3: cannot be read"):
        log.read(lambda event: event.content["a"])
