"""Describing: projector, learning, answers and test, on parts whose vectors are known to say what they are, or not."""

import json

import jsonschema
import numpy as np
import pytest
import torch

from mekiki.describing.describer import Describer, answer_tokens
from mekiki.describing.fit_describer import fit_describer, mean_loss
from mekiki.describing.grounding import VECTORS, evaluate_grounding
from mekiki.describing.language_model import LanguageModel
from mekiki.describing.part_training import TrainConfig, split_parts
from mekiki.describing.projector import PartVectors, Projector
from mekiki.describing.schema import ATTRIBUTES, QUESTIONS, json_schema
from mekiki.describing.texts import PartText
from mekiki.errors import InputError

KINDS = ("crack", "pit", "stain")
PLACES = ("left", "right")
SEVERITIES = ("minor", "severe")
CONFIG = TrainConfig(epochs=5, batch=16, rate=4e-3)


def toy(number=320, seed=0, mute=False):
    """Parts whose whole vector holds kind and severity, and whose patches hold the place; mute ones hold nothing."""
    rng = np.random.default_rng(seed)
    kind, place, severity = (rng.integers(0, len(each), number) for each in (KINDS, PLACES, SEVERITIES))
    whole = rng.normal(0, 0.3, (number, 6)).astype(np.float32)
    places = rng.normal(0, 0.3, (number, 1, 2, 3)).astype(np.float32)
    if not mute:
        whole[np.arange(number), kind] += 3
        whole[:, 4] += 3 * severity
        places[np.arange(number), 0, place, 1] += 3
    texts = []
    for part in range(number):
        k, p, s = KINDS[kind[part]], PLACES[place[part]], SEVERITIES[severity[part]]
        fields = {"defect": k, "place": p, "severity": s, "cause": f"the {k} tool", "repair": 'grind "it"'}
        if part % 2:
            texts.append(PartText(part, f"{p}に{s}の{k}があります。", "ja", fields))
        else:
            texts.append(PartText(part, f"A {s} {k} on the {p}.", "en", fields))
    return PartVectors(whole, places), texts


def small_lm(texts, seed=0):
    words = [value for text in texts for value in (text.text, *text.fields.values())]
    asks = [ask for each in QUESTIONS.values() for ask in each.values()]
    return LanguageModel.small([*words, *asks], vocabulary=400, layers=2, width=64, seed=seed)


@pytest.fixture(scope="module")
def learnt():
    parts, texts = toy()
    describer, split, history = fit_describer(parts, texts, small_lm(texts), config=CONFIG)
    return parts, texts, describer, split, history


def test_what_the_vector_holds_is_said_of_parts_never_seen(learnt):
    parts, texts, describer, split, _ = learnt
    test = evaluate_grounding(describer, parts, texts, split.test)
    assert test.passed
    assert test.parts == len(split.test) == 32
    assert all(test.accuracy["true"][name] >= 0.9 for name in ATTRIBUTES), test.accuracy
    for name in ATTRIBUTES:
        assert test.accuracy["shuffled"][name] < test.accuracy["true"][name]
    assert test.loss["true"] < min(test.loss[vectors] for vectors in VECTORS if vectors != "true")
    assert "reads the vector" in test.sentence


@pytest.mark.slow
def test_a_describer_of_vectors_that_say_nothing_is_said_to_guess():
    parts, texts = toy(100, mute=True)
    describer, split, _ = fit_describer(parts, texts, small_lm(texts), config=TrainConfig(epochs=2, batch=16))
    test = evaluate_grounding(describer, parts, texts, split.test)
    assert not test.passed
    assert "at chance" in test.sentence
    assert test.p_values["loss"] >= 0.01


def test_text_streams_in_the_language_that_is_asked_for(learnt):
    parts, texts, describer, split, _ = learnt
    row = next(int(row) for row in split.test if texts[row].fields["defect"] == "pit")
    part = parts.rows(slice(row, row + 1))
    english = list(describer.stream(part, QUESTIONS["en"]["text"]))
    japanese = "".join(describer.stream(part, QUESTIONS["ja"]["text"]))
    assert len(english) > 1, "it comes piece by piece"
    assert "pit" in "".join(english)
    assert "があります" in japanese
    assert "�" not in japanese


def test_answers_in_fields_are_valid_by_the_schema_for_any_vector(learnt):
    *_, describer, _, _ = learnt
    rng = np.random.default_rng(1)
    strange = PartVectors(
        rng.normal(0, 100, (24, 6)).astype(np.float32), rng.normal(0, 100, (24, 1, 2, 3)).astype(np.float32)
    )
    for language in ("en", "ja"):
        for told in describer.answer_fields(strange, language):
            jsonschema.validate(json.loads(json.dumps(told | {"cases": []})), json_schema(describer.values))


def test_many_parts_are_answered_as_each_alone(learnt):
    parts, _, describer, split, _ = learnt
    some = parts.rows(split.test[:6])
    together = describer.answer_fields(some, "en")
    alone = [describer.answer_fields(some.rows(slice(row, row + 1)), "en")[0] for row in range(6)]
    assert together == alone


def test_what_was_learnt_is_kept(learnt, tmp_path):
    parts, _, describer, split, _ = learnt
    describer.save(tmp_path, {"note": "kept"})
    again, facts = Describer.load(tmp_path)
    some = parts.rows(split.test[:4])
    assert facts["note"] == "kept"
    assert again.answer_fields(some, "ja") == describer.answer_fields(some, "ja")
    assert not list(tmp_path.rglob("*.bin")) + list(tmp_path.rglob("*.pkl")), "nothing that can run code"


def test_a_describer_whose_files_were_damaged_is_refused_by_name(learnt, tmp_path):
    learnt[2].save(tmp_path, {})
    weights = tmp_path / "projector.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InputError, match=str(tmp_path)):
        Describer.load(tmp_path)


def test_a_language_model_that_changed_is_refused(learnt, tmp_path):
    learnt[2].save(tmp_path, {})
    from safetensors.torch import load_file, save_file

    (weights,) = (tmp_path / "lm").glob("*.safetensors")
    state = load_file(weights)
    name = next(iter(state))
    state[name] = state[name] + 1
    save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(InputError, match="has changed"):
        Describer.load(tmp_path)


@pytest.mark.slow
def test_learning_that_was_interrupted_goes_on_to_the_same_bit(tmp_path):
    parts, texts = toy(80)
    config = TrainConfig(epochs=3, batch=16)
    straight, _, history = fit_describer(parts, texts, small_lm(texts), config=config)

    class Cut(Exception):
        pass

    def cut(row):
        if row["epoch"] == 2:
            raise Cut

    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Cut):
        fit_describer(parts, texts, small_lm(texts), config=config, checkpoint=checkpoint, on_epoch=cut)
    resumed, _, again = fit_describer(
        parts, texts, small_lm(texts), config=config, checkpoint=checkpoint, resume=True
    )
    assert again == history
    for name, value in straight.projector.state_dict().items():
        assert torch.equal(value, resumed.projector.state_dict()[name]), name
    other = TrainConfig(epochs=3, batch=8)
    with pytest.raises(InputError, match="other settings"):
        fit_describer(parts, texts, small_lm(texts), config=other, checkpoint=checkpoint, resume=True)


def test_parts_are_dealt_and_never_their_texts():
    texts = [PartText(part, "a", language, {}) for part in range(50) for language in ("en", "ja")]
    split = split_parts(texts, TrainConfig())
    sides = [set(each.tolist()) for each in (split.train, split.validation, split.test)]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 50
    assert min(map(len, sides)) >= 8


def test_photographs_of_one_part_are_on_one_side():
    texts = [PartText(row, "a", "en", {}, group=f"part {row // 3}") for row in range(150)]
    split = split_parts(texts, TrainConfig())
    groups = [{row // 3 for row in each.tolist()} for each in (split.train, split.validation, split.test)]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 50
    assert sum(map(len, (split.train, split.validation, split.test))) == 150


def test_too_few_parts_are_refused_with_the_number_it_takes():
    with pytest.raises(InputError, match=r"12 parts .* 40"):
        split_parts([PartText(part, "a", "en", {}) for part in range(12)], TrainConfig())


@pytest.mark.slow
def test_training_stops_when_what_is_held_out_no_longer_gains():
    parts, texts = toy(60, mute=True)
    _, _, history = fit_describer(
        parts, texts, small_lm(texts), config=TrainConfig(epochs=60, patience=2, batch=8, rate=1e-2)
    )
    held = history["held_out"]
    assert len(held) < 60
    assert int(np.argmin(held)) == len(held) - 3


def test_soft_tokens_have_the_length_of_real_ones_and_pass_gradients():
    parts, texts = toy(40)
    lm = small_lm(texts)
    projector = Projector(parts, lm.hidden, lm.token_norm)
    soft = projector(*parts.tensors())
    assert soft.shape == (40, projector.length, lm.hidden)
    assert torch.allclose(soft.norm(dim=2), torch.tensor(lm.token_norm), rtol=1e-4)
    soft[:, :, 0].sum().backward()
    assert all(float(each.grad.abs().sum()) > 0 for each in projector.parameters() if each.grad is not None)


def test_zeros_say_what_the_mean_of_all_parts_says():
    parts, _ = toy(40)
    projector = Projector(parts, 64, 1.0)
    whole, places = projector.mean_parts(2)
    assert np.allclose(whole.numpy(), parts.whole.mean(axis=0), atol=1e-5)
    assert np.allclose(places.numpy()[0, 0, 0], parts.places.mean(axis=(0, 1, 2)), atol=1e-5)


def test_the_loss_of_an_answer_does_not_depend_on_what_it_is_computed_with(learnt):
    parts, texts, describer, split, _ = learnt
    examples = answer_tokens(describer, texts, split.test)
    given = parts.tensors()
    with torch.inference_mode():
        together = describer.losses(examples, describer.soft(examples, given))
        alone = torch.cat(
            [describer.losses([example], describer.soft([example], given)) for example in examples]
        )
    assert torch.allclose(together, alone, rtol=1e-3, atol=1e-3)
    total = float(together.sum()) / sum(len(example.answer) for example in examples)
    assert mean_loss(describer, examples, given) == pytest.approx(total, rel=1e-4)


def test_texts_without_fields_teach_words_alone():
    parts, texts = toy(60)
    bare = [PartText(text.part, text.text, text.language, {}) for text in texts]
    describer, split, _ = fit_describer(parts, bare, small_lm(texts), config=TrainConfig(epochs=1, batch=16))
    assert describer.values == {}
    test = evaluate_grounding(describer, parts, bare, split.test)
    assert test.accuracy == {}
    assert set(test.p_values) == {"loss"}
