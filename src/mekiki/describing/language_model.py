"""Language-model wrappers that accept soft tokens in the prompt.

A *soft token* is a vector of the width of a token embedding that belongs to no token: a projector makes it from the
vectors of a part, and it takes the marked place in the prompt.
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

from mekiki.describing.chat_prompt import SOFT, encode_piece
from mekiki.describing.pretrained import EXTRA, add_adapter, add_lora, load_pretrained
from mekiki.errors import InputError
from mekiki.extras import quiet_transformers, require

SPECIAL = ("<pad>", "<begin>", "<end>", "<answer>")
"""Special tokens of a small model; their ids are 0, 1, 2 and 3."""
FROM_SCRATCH = "mekiki_small"
"""Key in `config.json` that marks a small model."""

_HEAD = 32
_LONGEST_TOKEN = 18
"""Bytes of a token at most (six Japanese characters), so that no token holds a whole sentence."""
_SAMPLED_TOKENS = 4096

PromptBuilder = Callable[[str, int], list[int]]
"""Question and number of soft tokens → token ids."""


class LanguageModel:
    """A causal language model whose prompts may contain soft tokens.

    `LanguageModel.small` makes one from scratch for given texts, `LanguageModel.load` loads one.

    Attributes:
        name: the name or folder it was loaded from, or `"small"`.
        model: the model of `transformers`, in evaluation mode; frozen unless it is from scratch or has LoRA weights.
        tokenizer: the tokenizer of `transformers`.
        from_scratch: whether it is a small model trained here.
        lora: whether it has LoRA weights trained here.
        adapter: folder of the adapter that it was loaded with, or `None`.
        hidden: width of its token embeddings.
        token_norm: mean L2 norm of its token embeddings before training, to which soft tokens are scaled.
        end_ids: the tokens that end an answer.
        end_id: the one that ends training answers.
        pad_id: the padding token.

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
        prompt: PromptBuilder,
        end_ids: Iterable[int],
        from_scratch: bool = False,
        fingerprint: str = "",
    ) -> None:
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.from_scratch = from_scratch
        self._prompt, self._fingerprint = prompt, fingerprint
        self.lora = False
        self.adapter: Path | None = None
        ends = [int(end) for end in end_ids]
        self.end_ids, self.end_id = set(ends), ends[0]
        pad = tokenizer.pad_token_id
        self.pad_id = int(pad) if pad is not None else self.end_id
        sample = torch.arange(0, len(tokenizer), max(1, len(tokenizer) // _SAMPLED_TOKENS))
        with torch.no_grad():
            rows = self.token_embeddings(sample.to(self.device)).float()
        self.hidden = int(rows.shape[1])
        self.token_norm = float(rows.norm(dim=1).mean())

    @property
    def device(self) -> torch.device:
        """Device of the token embeddings."""
        weight: Tensor = self.model.get_input_embeddings().weight  # type: ignore[operator]
        return weight.device

    @property
    def fingerprint(self) -> str:
        """SHA-256 over settings and weights, of a small model over its present weights: equal ones, equal answers."""
        return self._fingerprint or _weights_digest(self.model, self.tokenizer)

    @classmethod
    def small(
        cls, texts: Iterable[str], *, vocabulary: int = 2000, layers: int = 3, width: int = 128, seed: int = 0
    ) -> LanguageModel:
        """A small language model from scratch: the tokenizer is trained on the texts, the weights are random.

        The tokenizer is a byte-level byte-pair encoding, which can write any text, and splits numbers into digits; the
        model is a Llama with tied embeddings. Its prompt is `<begin> soft… question <answer>`.

        Args:
            texts: training texts, questions included.
            vocabulary: number of tokens at most, at least 260 (the bytes and four special ones).
            layers: number of layers.
            width: width of the embeddings, a multiple of 32.
            seed: seed of the random weights.

        Raises:
            InputError: there is no text, or a size is not possible.
        """
        transformers = require("transformers", extra=EXTRA, purpose="a language model")
        if width < _HEAD or width % _HEAD or layers < 1 or vocabulary < 256 + len(SPECIAL):
            raise InputError(
                f"a language model of {layers} layers, width {width} and {vocabulary} tokens cannot be made; give at "
                f"least 1 layer, a width that is a multiple of {_HEAD}, and at least {256 + len(SPECIAL)} tokens"
            )
        tokenizer = _train_tokenizer(texts, vocabulary)
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
            **{FROM_SCRATCH: True},
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = transformers.LlamaForCausalLM(config)
        return cls._from_scratch(model, tokenizer, "small")

    @classmethod
    def _from_scratch(cls, model: nn.Module, tokenizer: Any, name: str) -> LanguageModel:
        def prompt(question: str, soft: int) -> list[int]:
            return [1, *[SOFT] * soft, *encode_piece(tokenizer, question), 3]

        return cls(model, tokenizer, name=name, prompt=prompt, end_ids=(2,), from_scratch=True)

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        adapter: Path | None = None,
        four_bit: bool = False,
        device: str | torch.device = "cpu",
    ) -> LanguageModel:
        """Load a small model that `save` wrote, or any causal or vision-language model of `transformers`.

        Args:
            source: a folder, or a name on the hub.
            adapter: folder of a PEFT adapter for it, such as Unsloth writes.
            four_bit: keep its weights in four bits; needs CUDA and bitsandbytes.
            device: where to compute.

        Raises:
            MissingExtraError: the extra `describe` is not installed.
            InputError: there is no such model or adapter, or it cannot be used.
        """
        transformers = require("transformers", extra=EXTRA, purpose=f"language model {source}")
        if _is_from_scratch(Path(source)):
            if adapter is not None:
                raise InputError(f"adapter {adapter}: {source} is a small model, which takes none")
            with quiet_transformers(transformers):
                # A folder that `save` wrote, never the hub.
                tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(str(source))  # nosec B615
                model = transformers.LlamaForCausalLM.from_pretrained(  # nosec B615
                    str(source), use_safetensors=True
                )
            return cls._from_scratch(model.to(device), tokenizer, str(source))
        model, tokenizer, prompt, ends, fingerprint = load_pretrained(
            str(source), adapter=adapter, four_bit=four_bit, device=device
        )
        lm = cls(model, tokenizer, name=str(source), prompt=prompt, end_ids=ends, fingerprint=fingerprint)
        lm.adapter = None if adapter is None else adapter.resolve()
        return lm

    def add_lora(self, rank: int) -> None:
        """Add trainable low-rank changes; all other weights stay frozen."""
        self.model = add_lora(self.model, rank)
        self.lora = True

    def add_adapter(self, folder: Path) -> None:
        """Add the LoRA weights that `save` wrote.

        Raises:
            InputError: there are none, or they are of another model.
        """
        self.model = add_adapter(self.model, folder, merge=False).eval()
        self.lora = True

    def save(self, folder: Path) -> None:
        """Write a small model or LoRA weights into an existing folder, as safetensors and JSON."""
        with quiet_transformers(require("transformers", extra=EXTRA, purpose="saving a language model")):
            self.model.save_pretrained(folder)  # type: ignore[operator]
        if self.from_scratch:
            self.tokenizer.save_pretrained(folder)
        for weights in folder.glob("*.safetensors"):
            weights.chmod(0o644)  # `transformers` writes files that other users may not read

    def encode(self, text: str) -> list[int]:
        """Token ids of a piece of text, nothing added in front or behind; names of special tokens are text."""
        return encode_piece(self.tokenizer, text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids without special tokens; bytes that are not UTF-8 become `\ufffd`."""
        text: str = self.tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def prompt_ids(self, question: str, soft: int) -> list[int]:
        """Token ids of the whole prompt up to the answer, with `SOFT` once for each of `soft` tokens, side by side."""
        return self._prompt(question, soft)

    def token_embeddings(self, ids: Tensor) -> Tensor:
        """Embeddings of token ids, `[…, hidden]`."""
        # Through the module, not its weights: some models scale the embeddings they look up.
        embeddings: Tensor = self.model.get_input_embeddings()(ids)  # type: ignore[operator]
        return embeddings

    def embed(self, ids: Sequence[Sequence[int]], soft: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Embeddings of prompts, with the soft tokens in their places.

        Args:
            ids: token ids of `[B]` prompts, of any lengths.
            soft: float `[B, k, hidden]`, where every prompt has `k` places; `None` where it has none. Gradients flow
                back into it.

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
        embeddings = self.token_embeddings(padded.masked_fill(places, self.pad_id))
        number = 0 if soft is None else soft.shape[1]
        counts = set(places.sum(1).tolist())
        if counts != {number} or (soft is not None and soft.shape != (len(ids), number, self.hidden)):
            shape = "none" if soft is None else list(soft.shape)
            raise InputError(
                f"{len(ids)} prompts have {sorted(counts)} places for soft tokens of width {self.hidden}, and the soft "
                f"tokens given are {shape}"
            )
        if soft is not None and number:
            rows = soft.to(embeddings.device, embeddings.dtype).reshape(-1, self.hidden)
            embeddings = embeddings.masked_scatter(places.unsqueeze(2), rows)
        return embeddings, mask

    def logits(self, rows: Tensor, mask: Tensor, *, last: int = 0) -> Tensor:
        """Scores of the token that follows each row: `[B, L, V]`.

        Args:
            rows: embeddings, `[B, L, hidden]`.
            mask: `[B, L]`, 0 where there is padding, at either end.
            last: number of rows at the end whose scores are returned; 0 for all.
        """
        model: Any = self.model
        bare = model.get_base_model() if hasattr(model, "get_base_model") else model
        accepted = inspect.signature(bare.forward).parameters
        options: dict[str, Any] = {"logits_to_keep": last} if last and "logits_to_keep" in accepted else {}
        if "position_ids" in accepted:
            # Given, because padding would count as a position, and vision-language models keep those of earlier images.
            options["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
        logits: Tensor = self.model(
            inputs_embeds=rows, attention_mask=mask, use_cache=False, **options
        ).logits
        return logits[:, -last:]


def _is_from_scratch(folder: Path) -> bool:
    try:
        return FROM_SCRATCH in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _train_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """A byte-level byte-pair encoding, as a tokenizer of `transformers`."""
    transformers = require("transformers", extra=EXTRA, purpose="a tokenizer")
    tokenizers = require("tokenizers", extra=EXTRA, purpose="a tokenizer")
    corpus = list(texts)
    if not any(text.strip() for text in corpus):
        raise InputError("a language model cannot be made without text; give one text that is not empty")
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
        max_token_length=_LONGEST_TOKEN,
        show_progress=False,
    )
    bare.train_from_iterator(corpus, trainer=trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=bare,
        pad_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        extra_special_tokens=[SPECIAL[3]],
        clean_up_tokenization_spaces=False,
    )


def _weights_digest(model: nn.Module, tokenizer: Any) -> str:
    """SHA-256 over the tokenizer and the weights of a model in memory."""
    digest = hashlib.sha256()
    digest.update(tokenizer.backend_tokenizer.to_str().encode())
    for name, value in sorted(model.state_dict().items()):
        content = value.detach().cpu().contiguous()
        digest.update(f"{name} {content.dtype} {list(content.shape)}\n".encode())
        digest.update(content.numpy().tobytes())
    return digest.hexdigest()
