"""Answers of a fixed form: whatever a language model would like to say, what it says is valid."""

import copy
import json
import time

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from language_models import TEXTS, language_model_folder, sentencepiece_like
from mekiki.describing.language_model import LanguageModel
from mekiki.describing.schema import Choice, FixedText, FreeText, Schema
from mekiki.errors import InputError

VALUES = st.text(st.sampled_from('abcdefg crk-,.:{}[]左上亀裂é🔧<|"\\\n\t'), min_size=1, max_size=12)
NAMES = ("defect", "place", "cause", "部位")


@pytest.fixture(
    scope="module", params=["own", pytest.param("llama", marks=pytest.mark.slow), "qwen", "sentencepiece"]
)
def lm(request, tmp_path_factory):
    if request.param == "own":
        return LanguageModel.small(TEXTS, vocabulary=330, layers=1, width=32)
    if request.param == "sentencepiece":
        tokenizer = sentencepiece_like()
        config = transformers.LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2,
        )  # fmt: skip
        model = transformers.LlamaForCausalLM(config)
        return LanguageModel(
            model, tokenizer, name="sp", prompt=lambda ask, *_: tokenizer.encode(ask), end_ids=[2]
        )
    return LanguageModel.load(language_model_folder(request.param, tmp_path_factory.mktemp("lm")))


def reseeded(lm, seed):
    """The same model with weights that nobody learnt: each seed has another wish."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in lm.model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * (
            0.3 if parameter.ndim > 1 else 1
        )
    return lm


def generated(lm, schema, asks=("What?",), sample=False):
    rows, mask = lm.embed([lm.prompt_ids(ask, 0) for ask in asks])
    with torch.no_grad():
        return lm.model.generate(
            inputs_embeds=rows,
            attention_mask=mask,
            max_new_tokens=schema.longest,
            do_sample=sample,
            top_k=0,
            temperature=3.0 if sample else 1.0,
            logits_processor=[schema.processor()],
            pad_token_id=lm.pad_id,
            eos_token_id=sorted(lm.end_ids),
        ).tolist()


def form(pieces):
    """A JSON object of choices and free texts, with a literal around each."""
    told, before = [], "{"
    for name, piece in zip(NAMES, pieces, strict=False):
        told += [FixedText(f'{before}{json.dumps(name, ensure_ascii=False)}: "'), piece]
        before = '", '
    return [*told, FixedText('"}')]


PIECES = st.lists(
    st.one_of(
        st.lists(VALUES, min_size=1, max_size=4, unique=True).map(Choice),
        st.integers(1, 12).map(FreeText),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=PIECES, seed=st.integers(0, 2**16), sample=st.booleans())
def test_whatever_a_model_would_like_to_say_the_answer_is_valid(lm, pieces, seed, sample):
    torch.manual_seed(seed)
    schema = Schema(form(pieces), reseeded(lm, seed))
    for ids in generated(lm, schema, ("?", "What is wrong with this part?", "a"), sample):
        said = schema.read(ids)
        told = json.loads(lm.decode(ids).replace("\ufffd", ""))
        assert list(told) == list(NAMES[: len(pieces)])
        assert [value.replace("\ufffd", "") for value in told.values()] == said
        for piece, value in zip(pieces, said, strict=True):
            if isinstance(piece, Choice):
                assert value in piece.options
            else:
                assert "\ufffd" not in value
                value.encode("utf-8")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=PIECES, data=st.data())
def test_what_is_learnt_is_what_is_forced(lm, pieces, data):
    """Every token of an encoded answer is allowed in its place, so that learning and decoding see the same."""
    schema = Schema(form(pieces), lm)
    values = [
        data.draw(st.sampled_from(list(piece.options)) if isinstance(piece, Choice) else VALUES)
        for piece in pieces
    ]
    ids = schema.encode(values)
    assert len(ids) < schema.longest
    processor = schema.processor()
    width = len(lm.tokenizer)
    for place, token in enumerate([*ids, lm.end_id]):
        scores = processor(torch.tensor([ids[:place]], dtype=torch.int64), torch.zeros(1, width))
        assert scores[0, token] == 0
    for piece, value, read in zip(pieces, values, schema.read(ids), strict=True):
        if isinstance(piece, Choice):
            assert read == value
    json.loads(lm.decode(ids).replace("\ufffd", ""))


def test_rows_of_a_batch_end_each_in_their_own_time(lm):
    schema = Schema(form([FreeText(8), Choice(["crack", "a much longer name of a defect"])]), reseeded(lm, 3))
    asks = ("?", "What is wrong with this part?", "crack oil")
    together = [schema.read(ids) for ids in generated(lm, schema, asks)]
    assert together == [schema.read(generated(lm, schema, (ask,))[0]) for ask in asks]


def test_a_prompt_of_ids_is_no_part_of_the_answer(lm):
    schema = Schema(form([Choice(["crack", "oil"])]), lm)
    prompt = torch.tensor([lm.encode('{"defect": "no"} crack')])
    with torch.no_grad():
        ids = lm.model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=schema.longest,
            do_sample=False,
            logits_processor=[schema.processor()],
            pad_token_id=lm.pad_id,
            eos_token_id=sorted(lm.end_ids),
        )[0, prompt.shape[1] :]
    assert schema.read(ids.tolist())[0] in ("crack", "oil")


def test_options_that_begin_alike_can_all_be_said(lm):
    options = ["oil", "oil stain", "oil stain, old", "o", "左", "左上"]
    schema = Schema(form([Choice(options)]), lm)
    for option in options:
        assert schema.read(schema.encode([option])) == [option]
        forced = schema.encode([option])
        state = schema.start()
        for token in forced:
            assert token in schema.next_tokens(state)[0]
            state = schema.after(state, token)
        assert schema.next_tokens(state)[0] == sorted(lm.end_ids)


def test_forms_that_cannot_be_are_refused(lm):
    for pieces in (
        [Choice(["a"])],
        [FixedText("x"), FreeText(3)],
        [FreeText(3), Choice(["a"]), FixedText("x")],
        [Choice([]), FixedText("x")],
        [Choice([""]), FixedText("x")],
    ):
        with pytest.raises(InputError):
            Schema(pieces, lm)
    schema = Schema(form([Choice(["a"])]), lm)
    with pytest.raises(InputError, match="is none of a"):
        schema.encode(["b"])


def test_with_a_vocabulary_of_150_thousand_tokens_a_step_costs_a_millisecond_or_two(lm):
    """Qwen's size; the mask of free text is made once."""
    schema = Schema(form([FreeText(500)]), lm)
    scores = torch.zeros(1, 151_936)
    processor = schema.processor()
    start = schema.encode(["a" * 3])[:-3]
    ids = torch.tensor([start])
    for place in range(len(start)):
        processor(ids[:, :place], scores)
    times = []
    for _ in range(30):
        ids = torch.cat([ids, torch.tensor([lm.encode("a")[:1]])], dim=1)
        begun = time.perf_counter()
        processor(ids, scores)
        times.append(time.perf_counter() - begun)
    assert sorted(times)[15] < 0.005


def test_two_models_do_not_share_what_may_stand_in_free_text(lm):
    other = copy.copy(lm)
    wide, narrow = (Schema(form([FreeText(3)]), each).processor() for each in (lm, other))
    for processor, width in ((wide, len(lm.tokenizer) + 50), (narrow, len(lm.tokenizer))):
        ids = torch.tensor([Schema(form([FreeText(3)]), lm).encode(["a"])[:-2]])
        assert processor(ids[:, :0], torch.zeros(1, width)).shape == (1, width)
