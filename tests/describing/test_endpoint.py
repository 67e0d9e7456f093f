"""A language model elsewhere: against a server that speaks the protocol and really answers from what it got."""

import base64
import itertools
import json
import threading
import time

import pytest
import torch

from endpoint_server import Server
from language_models import TEXTS
from mekiki.describing.endpoint import KEY, Endpoint, write_requests
from mekiki.describing.language_model import LanguageModel
from mekiki.errors import InputError

ASK = "What is wrong with this part?"
SECRET = "sk-a-key-that-nobody-should-read"
TOKENS = 12


@pytest.fixture(scope="module")
def lm():
    made = LanguageModel.small(TEXTS, vocabulary=320, layers=1, width=32, seed=5)
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter *= 6 if parameter.ndim > 1 else 1
    return made


@pytest.fixture(scope="module")
def rows(lm):
    soft = torch.randn(1, 2, lm.hidden, generator=torch.Generator().manual_seed(3)) * 0.3
    with torch.no_grad():
        return lm.embed([lm.prompt_ids(ASK, 2)], soft)[0][0]


@pytest.fixture
def server(lm):
    made = Server(lm)
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield made
    made.release.set()
    made.shutdown()
    made.server_close()


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv(KEY, raising=False)


def endpoint(server, **named):
    return Endpoint(server.url, "tiny", **{"timeout": 5.0, "wait": 0.01, **named})


def local(lm, rows, number=TOKENS):
    """What the same model says here, by `generate` of the library."""
    with torch.no_grad():
        ids = lm.model.generate(
            inputs_embeds=rows[None],
            attention_mask=torch.ones(1, len(rows), dtype=torch.int64),
            max_new_tokens=number,
            do_sample=False,
            pad_token_id=lm.pad_id,
            eos_token_id=sorted(lm.end_ids),
        )
    return lm.decode(ids[0].tolist())


def refused(match, given, rows, **named):
    with pytest.raises(InputError, match=match) as caught:
        "".join(given.stream(rows, max_tokens=TOKENS, **named))
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_a_server_says_what_the_same_model_says_here(lm, server, rows):
    pieces = list(endpoint(server).stream(rows, max_tokens=TOKENS))
    assert len(pieces) > 3
    assert "".join(pieces) == local(lm, rows)
    other = rows.clone()
    other[1:3] = -other[1:3]
    assert "".join(endpoint(server).stream(other, max_tokens=TOKENS)) == local(lm, other) != local(lm, rows)


def test_words_are_there_before_the_answer_is_whole(server, rows):
    server.acts = ["pause"]
    stream = endpoint(server, timeout=0.5).stream(rows, max_tokens=TOKENS)
    assert isinstance(next(stream), str)
    with pytest.raises(InputError, match="broke off in the middle"):
        list(stream)
    assert len(server.seen) == 1


def test_half_precision_travels_as_it_is(lm, server, rows):
    half = rows.to(torch.bfloat16)
    assert "".join(endpoint(server).stream(half, max_tokens=TOKENS)) == local(lm, half.float())


def test_only_the_prompt_travels_and_not_the_batch_it_was_made_in(server, lm):
    batch = torch.zeros(64, 10, lm.hidden)
    list(endpoint(server).stream(batch[3], max_tokens=1))
    content = base64.b64decode(server.seen[0][2]["prompt_embeds"])
    assert len(content) < 4 * 10 * lm.hidden + 4000


def test_gradients_and_devices_do_not_travel(server, rows):
    learning = rows.clone().requires_grad_(True)
    assert list(endpoint(server).stream(learning, max_tokens=2))


@pytest.mark.parametrize("acts", [[429], [503, 500], ["hang up"], [502, "hang up", 504]])
def test_a_server_in_trouble_is_asked_again(lm, server, rows, acts):
    server.acts = list(acts)
    assert "".join(endpoint(server).stream(rows, max_tokens=TOKENS)) == local(lm, rows)
    assert len(server.seen) == len(acts) + 1


def test_waits_grow_and_what_the_server_asks_for_is_kept(server, rows):
    server.acts = [500, 500, 500]
    list(endpoint(server, wait=0.1).stream(rows, max_tokens=1))
    times = [each[3] for each in server.seen]
    pauses = [later - before for before, later in itertools.pairwise(times)]
    assert pauses[0] >= 0.1 and pauses[1] >= 0.2 and pauses[2] >= 0.4
    server.seen.clear()
    server.acts, server.retry_after = [429], "1"
    list(endpoint(server, wait=0.001).stream(rows, max_tokens=1))
    assert server.seen[1][3] - server.seen[0][3] >= 1.0


def test_a_server_that_stays_in_trouble_is_given_up(server, rows):
    server.acts = [500] * 9
    refused("answers 500", endpoint(server, retries=2), rows)
    assert len(server.seen) == 3


def test_a_server_that_does_not_answer_is_given_up_in_time(server, rows):
    server.acts = ["hang"] * 9
    begun = time.monotonic()
    refused("cannot be reached|does not answer", endpoint(server, timeout=0.3, retries=1), rows)
    assert time.monotonic() - begun < 3
    assert len(server.seen) == 2


@pytest.mark.parametrize("act", ["close", "stop short"])
def test_an_answer_that_breaks_off_is_never_taken_for_whole_nor_begun_anew(server, rows, act):
    server.acts = [act]
    heard = []
    with pytest.raises(InputError, match="broke off in the middle"):
        for piece in endpoint(server).stream(rows, max_tokens=TOKENS):
            heard.append(piece)  # noqa: PERF402 (what was heard before it broke off counts)
    assert len(heard) == 2
    assert len(server.seen) == 1


def test_what_fails_in_the_middle_says_what_the_server_says(server, rows):
    server.acts = ["fail"]
    assert "no completion" not in refused("EngineCore died", endpoint(server), rows)
    server.acts = ["babble"]
    refused("no completion", endpoint(server), rows)


def test_a_key_comes_from_the_environment_and_stands_in_no_message(server, rows, monkeypatch, capfd, caplog):
    caplog.set_level("DEBUG")
    server.key = SECRET
    assert KEY in refused("401", endpoint(server), rows)
    assert len(server.seen) == 1
    monkeypatch.setenv(KEY, SECRET + "x")
    refused("401", endpoint(server), rows)
    monkeypatch.setenv(KEY, SECRET)
    assert list(endpoint(server).stream(rows, max_tokens=3))
    said = capfd.readouterr()
    assert SECRET not in said.out + said.err + caplog.text
    assert SECRET not in repr(vars(endpoint(server)))


def test_a_key_that_no_header_can_hold_is_refused(server, rows, monkeypatch):
    for bad in ("鍵" + SECRET, SECRET + "\nX: y"):
        monkeypatch.setenv(KEY, bad)
        assert KEY in refused(KEY, endpoint(server), rows)
    assert not server.seen


def test_what_the_server_does_not_take_is_said_in_its_words(server, rows):
    server.embeds = False
    refused("--enable-prompt-embeds", endpoint(server), rows)
    server.embeds = True
    said = refused("hidden_size 5 does not match the model's hidden_size 32", endpoint(server), rows[:, :5])
    assert "started with" not in said
    refused("2D tensor", endpoint(server), rows[None])
    refused("does not exist", Endpoint(server.url, "another"), rows)
    refused("no /completions", Endpoint(server.url + "/v2", "tiny"), rows)
    assert len(server.seen) == 5


def test_an_address_where_nothing_listens_or_that_is_none_is_refused(rows):
    refused("cannot be reached", Endpoint("http://127.0.0.1:9/v1", "tiny", retries=1, wait=0.01), rows)
    for bad in ("localhost:8000", "ftp://host/v1", "http://", "http://host:port/v1", "http://ho st/v1"):
        with pytest.raises(InputError, match="no address of a server"):
            "".join(Endpoint(bad, "tiny", retries=0).stream(rows, max_tokens=1))


def test_a_stream_that_is_left_is_closed(server, rows):
    server.acts = ["pause"]
    before = {each for each in threading.enumerate() if each.name.startswith("mekiki")}
    stream = endpoint(server).stream(rows, max_tokens=TOKENS)
    next(stream)
    stream.close()
    assert {each for each in threading.enumerate() if each.name.startswith("mekiki")} <= before


def test_requests_for_a_batch_are_lines_that_the_server_takes(lm, server, rows, tmp_path):
    path = tmp_path / "requests.jsonl"
    prompts = [("part-1", rows), ("部品-2", -rows)]
    assert write_requests(path, iter(prompts), "tiny", max_tokens=TOKENS) == 2
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["custom_id"] for line in lines] == ["part-1", "部品-2"]
    assert {(line["method"], line["url"]) for line in lines} == {("POST", "/v1/completions")}
    import httpx

    for line, (_, given) in zip(lines, prompts, strict=True):
        told = httpx.post(server.url.removesuffix("/v1") + line["url"], json=line["body"]).text
        events = [event for event in told.split("\n\n") if event.startswith("data: {")]
        text = "".join(json.loads(event[6:])["choices"][0]["text"] for event in events)
        assert text == local(lm, given)


def test_a_batch_that_fails_leaves_the_old_file(rows, tmp_path):
    path = tmp_path / "requests.jsonl"
    path.write_text("old")

    def broken():
        yield "one", rows
        raise InputError("no more")

    with pytest.raises(InputError):
        write_requests(path, broken(), "tiny", max_tokens=1)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["requests.jsonl"]
