"""Doors to language models: a prompt with a place for soft tokens, and its embeddings.

A *soft token* is a vector of the width of a token's embedding that stands for no token: it is made from what a network
saw of a part, and put where a chat template has its marker.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mekiki.describing.pretrained import EXTRA, adapted, load_pretrained, with_lora
from mekiki.describing.prompt import SOFT, encoded
from mekiki.errors import InputError
from mekiki.extras import quiet_transformers, require

SPECIAL = ("<pad>", "<begin>", "<end>", "<answer>")
"""Tokens of a model made here that no text has; their ids are 0, 1, 2 and 3."""
OWN = "mekiki_small"
"""In the configuration of a model made here, set."""

_HEAD = 32
_LONGEST_PIECE = 18
"""Bytes of a token at most (six Japanese characters), so that no token learns a whole sentence by heart."""
_MEASURED = 4096

Prompt = Callable[[str, int, str], list[int]]
"""Question, number of soft tokens and system message → token ids."""


class LanguageModel:
    """A causal language model that can be spoken to in vectors.

    Made by `LanguageModel.small` (from scratch, on one's own texts) or `LanguageModel.load`.

    Attributes:
        name: what it was loaded by, or `"small"`.
        model: the model of `transformers`, in evaluation mode; frozen unless it was made here or has LoRA weights.
        tokenizer: the tokenizer of `transformers`.
        own: whether it is one that was trained here from scratch.
        lora: whether a low-rank change of it learnt here.
        adapter: where an adapter that it was loaded with lies, or `None`.
        hidden: width of its token embeddings.
        token_norm: mean L2 norm of its token embeddings when it was made, which soft tokens are scaled to.
        end_ids: the tokens that end an answer.
        end_id: the one that an answer is learnt to end with.
        pad_id: the token that stands where nothing stands.

    Example:
        >>> lm = LanguageModel.small(["a deep scratch in the upper left"] * 2, vocabulary=300, layers=1, width=32)
        >>> ids = lm.prompt_ids("What is wrong?", soft=2)
        >>> ids[:3], ids.count(SOFT), lm.decode(ids[3:-1])
        ([1, -1, -1], 2, 'What is wrong?')
        >>> inputs, mask = lm.embed([ids, ids], torch.zeros(2, 2, lm.hidden))
        >>> inputs.shape == (2, len(ids), 32), bool(mask.all())
        (True, True)
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        name: str,
        prompt: Prompt,
        end_ids: Iterable[int],
        own: bool = False,
        fingerprint: str = "",
    ) -> None:
        self.model, self.tokenizer, self.name, self.own = model.eval(), tokenizer, name, own
        self._prompt, self._fingerprint = prompt, fingerprint
        self.lora = False
        self.adapter: Path | None = None
        ends = [int(end) for end in end_ids]
        self.end_ids, self.end_id = set(ends), ends[0]
        pad = tokenizer.pad_token_id
        self.pad_id = int(pad) if pad is not None else self.end_id
        known = torch.arange(0, len(tokenizer), max(1, len(tokenizer) // _MEASURED))
        with torch.no_grad():
            seen = self._token_embeddings(known.to(self.device)).float()
        self.hidden = int(seen.shape[1])
        self.token_norm = float(seen.norm(dim=1).mean())

    @property
    def device(self) -> torch.device:
        """Where token embeddings are looked up."""
        weight: Tensor = self._table.weight  # type: ignore[assignment]
        return weight.device

    @property
    def fingerprint(self) -> str:
        """SHA-256 over configuration and weights: equal fingerprints, equal answers.

        Of a model made here it is that of the weights as they are now.
        """
        return self._fingerprint or _fingerprint(self.model, self.tokenizer)

    @classmethod
    def small(
        cls, texts: Iterable[str], *, vocabulary: int = 2000, layers: int = 3, width: int = 128, seed: int = 0
    ) -> LanguageModel:
        """A small language model of one's own: the tokenizer is trained on the texts, the weights are random.

        The tokenizer is byte-level byte-pair encoding, so that any text can be written in it, and digits stand alone;
        the model is a Llama with tied embeddings. Its prompt is `<begin> soft… question <answer>`.

        Args:
            texts: what it is to learn to write, questions included.
            vocabulary: tokens at most, at least 260 (the bytes and four special ones).
            layers: depth.
            width: width of the embeddings, a multiple of 32.
            seed: of the random weights.

        Raises:
            MissingExtraError: the extra `describe` is not installed.
            InputError: there is no text, or a size cannot be used.
        """
        transformers = require("transformers", extra=EXTRA, purpose="a language model")
        if width < _HEAD or width % _HEAD or layers < 1 or vocabulary < 256 + len(SPECIAL):
            raise InputError(
                f"a language model of {layers} layers, width {width} and {vocabulary} tokens cannot be made; give at "
                f"least 1 layer, a width that is a multiple of {_HEAD}, and at least {256 + len(SPECIAL)} tokens"
            )
        tokenizer = _trained_tokenizer(texts, vocabulary)
        config = transformers.LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=-(-8 * width // (3 * _HEAD)) * _HEAD,
            num_hidden_layers=layers,
            num_attention_heads=width // _HEAD,
            tie_word_embeddings=True,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            **{OWN: True},
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = transformers.LlamaForCausalLM(config)
        return cls._made_here(model, tokenizer, "small")

    @classmethod
    def _made_here(cls, model: nn.Module, tokenizer: Any, name: str) -> LanguageModel:
        return cls(model, tokenizer, name=name, prompt=_OwnPrompt(tokenizer), end_ids=(2,), own=True)

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        adapter: Path | None = None,
        four_bit: bool = False,
        device: str | torch.device = "cpu",
    ) -> LanguageModel:
        """Load a language model: one that `save` wrote, or any of `transformers`, with or without eyes of its own.

        Args:
            source: a folder, or a name on the hub.
            adapter: folder of a PEFT adapter to be put on it, such as Unsloth writes.
            four_bit: keep its weights in four bits; needs CUDA and bitsandbytes.
            device: where to compute.

        Raises:
            MissingExtraError: the extra `describe` is not installed.
            InputError: there is no such model or adapter, or it cannot be used.
        """
        transformers = require("transformers", extra=EXTRA, purpose=f"language model {source}")
        if _made_by_small(Path(source)):
            if adapter is not None:
                raise InputError(f"adapter {adapter}: {source} is a small model made here, which takes none")
            with quiet_transformers(transformers):
                # A folder that was made here, never the hub.
                tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(str(source))  # nosec B615
                model = transformers.LlamaForCausalLM.from_pretrained(  # nosec B615
                    str(source), use_safetensors=True
                )
            return cls._made_here(model.to(device), tokenizer, str(source))
        model, tokenizer, prompt, ends, fingerprint = load_pretrained(
            str(source), adapter=adapter, four_bit=four_bit, device=device
        )
        made = cls(model, tokenizer, name=str(source), prompt=prompt, end_ids=ends, fingerprint=fingerprint)
        made.adapter = None if adapter is None else adapter.resolve()
        return made

    def add_lora(self, rank: int) -> None:
        """Let a low-rank change of it learn, the rest staying as it is."""
        self.model = with_lora(self.model, rank)
        self.lora = True

    def add_adapter(self, folder: Path) -> None:
        """Take back the change that `save` wrote.

        Raises:
            InputError: it is not there, or was made for another model.
        """
        self.model = adapted(self.model, folder, merge=False).eval()
        self.lora = True

    def save(self, folder: Path) -> None:
        """Write what learnt, as safetensors and JSON: a model made here, or a LoRA; the folder is there."""
        with quiet_transformers(require("transformers", extra=EXTRA, purpose="saving a language model")):
            self.model.save_pretrained(folder)  # type: ignore[operator]
        if self.own:
            self.tokenizer.save_pretrained(folder)
        for weights in folder.glob("*.safetensors"):  # their writer makes files that no one else may read
            weights.chmod(0o644)

    def encode(self, text: str) -> list[int]:
        """Token ids of a piece of text, with nothing added in front or behind; names of special tokens are text."""
        return encoded(self.tokenizer, text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids, special tokens left out; bytes that are no UTF-8 become `\ufffd`."""
        text: str = self.tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def prompt_ids(self, ask: str, soft: int, system: str = "") -> list[int]:
        """The whole prompt up to where the answer begins.

        Args:
            ask: what the user says.
            soft: how many soft tokens there are, 0 for none.
            system: what stands above the conversation.

        Returns:
            Token ids, with `SOFT` once for every soft token, all side by side.
        """
        return self._prompt(ask, soft, system)

    def embed(self, ids: Sequence[Sequence[int]], soft: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Embeddings of prompts, the soft tokens in their places.

        Args:
            ids: token ids of `[B]` prompts (and, in training, of their answers), of any lengths.
            soft: float `[B, k, hidden]`, where every prompt has `k` places; `None` where it has none. What is learnt
                flows back into it.

        Returns:
            Embeddings `[B, L, hidden]` in the model's precision, shorter prompts padded at the left, and the attention
            mask `[B, L]`, int64, 0 where there is padding.

        Raises:
            InputError: the number of places is not that of the soft tokens.
        """
        longest = max(len(row) for row in ids)
        padded = torch.tensor([[self.pad_id] * (longest - len(row)) + list(row) for row in ids])
        padded = padded.to(self.device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in ids]).to(self.device)
        places = padded == SOFT
        embeddings = self._token_embeddings(padded.masked_fill(places, self.pad_id))
        given = 0 if soft is None else soft.shape[1]
        counts = set(places.sum(1).tolist())
        if counts != {given} or (soft is not None and soft.shape != (len(ids), given, self.hidden)):
            shape = "none" if soft is None else list(soft.shape)
            raise InputError(
                f"{len(ids)} prompts have {sorted(counts)} places for soft tokens of width {self.hidden}, and the soft "
                f"tokens given are {shape}"
            )
        if soft is not None and given:
            there = soft.to(embeddings.device, embeddings.dtype).reshape(-1, self.hidden)
            embeddings = embeddings.masked_scatter(places.unsqueeze(2), there)
        return embeddings, mask

    def logits(self, rows: Tensor, mask: Tensor, *, last: int = 0) -> Tensor:
        """Scores of the token that follows each row: `[B, L, V]`.

        Args:
            rows: embeddings, `[B, L, hidden]`.
            mask: `[B, L]`, 0 where there is padding, which may be at both ends.
            last: only those behind the last so many rows; 0 for all.
        """
        model: Any = self.model
        bare = model.get_base_model() if hasattr(model, "get_base_model") else model
        known = inspect.signature(bare.forward).parameters
        options: dict[str, Any] = {"logits_to_keep": last} if last and "logits_to_keep" in known else {}
        if "position_ids" in known:
            # Told, because padding counts as a place else, and models with eyes go by the last images they saw.
            options["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
        found: Tensor = self.model(inputs_embeds=rows, attention_mask=mask, use_cache=False, **options).logits
        return found[:, -last:]

    @property
    def _table(self) -> nn.Module:
        table: nn.Module = self.model.get_input_embeddings()  # type: ignore[operator]
        return table

    def _token_embeddings(self, ids: Tensor) -> Tensor:
        # Through the module, not its weights: some models scale what they look up.
        embeddings: Tensor = self._table(ids)
        return embeddings


class _OwnPrompt:
    """`<begin> soft… question <answer>`, the prompt of a model made here."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, ask: str, soft: int, system: str) -> list[int]:
        text = f"{system}\n{ask}" if system else ask
        return [1, *[SOFT] * soft, *encoded(self.tokenizer, text), 3]


def _made_by_small(folder: Path) -> bool:
    try:
        return OWN in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _trained_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """Byte-level byte-pair encoding, as `transformers` holds it."""
    transformers = require("transformers", extra=EXTRA, purpose="a tokenizer")
    tokenizers = require("tokenizers", extra=EXTRA, purpose="a tokenizer")
    known = list(texts)
    if not any(text.strip() for text in known):
        raise InputError(
            "a language model cannot be made from no text; give at least one text that is not empty"
        )
    split = tokenizers.pre_tokenizers
    bare = tokenizers.Tokenizer(tokenizers.models.BPE())
    bare.pre_tokenizer = split.Sequence(
        [split.Digits(individual_digits=True), split.ByteLevel(add_prefix_space=False)]
    )
    bare.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        initial_alphabet=split.ByteLevel.alphabet(),
        max_token_length=_LONGEST_PIECE,
        show_progress=False,
    )
    bare.train_from_iterator(known, trainer=trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=bare,
        pad_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        extra_special_tokens=[SPECIAL[3]],
        clean_up_tokenization_spaces=False,
    )


def _fingerprint(model: nn.Module, tokenizer: Any) -> str:
    """SHA-256 over what a model in memory is made of, by name."""
    whole = hashlib.sha256()
    whole.update(tokenizer.backend_tokenizer.to_str().encode())
    for name, value in sorted(model.state_dict().items()):
        content = value.detach().cpu().contiguous()
        whole.update(f"{name} {content.dtype} {list(content.shape)}\n".encode())
        whole.update(content.numpy().tobytes())
    return whole.hexdigest()
