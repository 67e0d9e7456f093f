"""Language models and vision-language models of `transformers`, and PEFT adapters on them.

A model is given by name or as a folder, as safetensors only, and no code that comes with it is run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mekiki.describing.chat_prompt import ChatPrompt
from mekiki.errors import InputError, first_line
from mekiki.extras import quiet_transformers, require

EXTRA = "describe"
_NOT_ADAPTED = ("vision", "visual", "image", "projector", "lm_head")
"""Parts of names of modules that LoRA does not change: the vision encoder and the output layer."""
_SAMPLED = 2**20
"""Bytes at either end of a weight file that go into its fingerprint."""


def load_pretrained(
    source: str, *, adapter: Path | None, four_bit: bool, device: str | torch.device
) -> tuple[nn.Module, Any, ChatPrompt, list[int], str]:
    """A language model, its tokenizer, its prompt, the tokens that end an answer (that of a turn first), a fingerprint.

    Args:
        source: name on the hub, or a folder.
        adapter: folder of a PEFT adapter for it; a tokenizer in this folder replaces the model's.
        four_bit: keep weights in four bits; needs CUDA.
        device: where to compute; with four bits, CUDA.

    Raises:
        InputError: there is no such model, it is not a language model, its weights are not safetensors, or the adapter
            does not fit it.
    """
    transformers = require("transformers", extra=EXTRA, purpose=f"language model {source}")
    device = torch.device("cuda" if four_bit else device)
    options: dict[str, Any] = {
        "trust_remote_code": False,
        "use_safetensors": True,
        "dtype": torch.bfloat16 if device.type == "cuda" else torch.float32,
    }
    if four_bit:
        options |= _four_bit_options(transformers, device)
    home = adapter if adapter is not None and (adapter / "tokenizer_config.json").is_file() else source
    with quiet_transformers(transformers):
        try:
            # The user chooses model and revision; no code of it is run.
            config = transformers.AutoConfig.from_pretrained(  # nosec B615
                source, trust_remote_code=False
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(  # nosec B615
                str(home), trust_remote_code=False
            )
            auto_class = (
                transformers.AutoModelForImageTextToText
                if hasattr(config, "vision_config")
                else transformers.AutoModelForCausalLM
            )
            model, report = auto_class.from_pretrained(source, output_loading_info=True, **options)
        except Exception as error:  # the library passes on anything that its parts raise
            raise InputError(
                f"language model {source}: cannot be loaded ({first_line(error)}); give a folder that save_pretrained "
                "wrote with its tokenizer, as safetensors, or a name that is in the cache or can be downloaded"
            ) from None
    if report["missing_keys"]:
        raise InputError(
            f"language model {source}: its weights do not fit its configuration ({len(report['missing_keys'])} are "
            f"missing, such as {sorted(report['missing_keys'])[0]}); get the model again, or give a language model"
        )
    if not four_bit:
        model = model.to(device)
    digest = _files_digest(Path(transformers.utils.cached_file(source, "config.json")).parent)
    if adapter is not None:
        with quiet_transformers(transformers):
            model = add_adapter(model, adapter, merge=not four_bit)
        digest = hashlib.sha256((digest + _files_digest(adapter)).encode()).hexdigest()
    model.requires_grad_(False)
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise InputError(
            f"language model {source}: its tokenizer{f' (that of {adapter})' if home == adapter else ''} has "
            f"{len(tokenizer)} tokens and the model {rows}; give the tokenizer that belongs to it"
        )
    prompt = ChatPrompt(tokenizer, name=source, **_image_tokens(config))
    # The end of a turn first: training answers end with it.
    ends = [prompt.turn_end(), tokenizer.eos_token_id]
    others = model.generation_config.eos_token_id
    ends += others if isinstance(others, list) else [others]
    end_ids = [end for end in ends if end is not None]
    if not end_ids:
        raise InputError(f"language model {source}: has no token that ends an answer, so it would never stop")
    return model, tokenizer, prompt, end_ids, digest


def _four_bit_options(transformers: Any, device: torch.device) -> dict[str, Any]:
    if not torch.cuda.is_available():
        raise InputError("--four-bit needs a CUDA device, and there is none here; leave it out")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError("--four-bit needs bitsandbytes: pip install bitsandbytes")
    settings = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
    return {"quantization_config": settings, "device_map": {"": device}}


def _image_tokens(config: Any) -> dict[str, Any]:
    """The token that stands for an image, and those around it if the template leaves them to a processor (Gemma 3)."""

    def token(name: str) -> int | None:
        return getattr(config, f"{name}_token_id", getattr(config, f"{name}_token_index", None))

    if not hasattr(config, "vision_config"):
        return {}
    begin, end = token("boi"), token("eoi")
    return {"image": token("image"), "around": None if begin is None or end is None else (begin, end)}


def add_adapter(model: Any, folder: Path, *, merge: bool) -> Any:
    """A language model with a PEFT adapter, such as Unsloth writes.

    The base model that the adapter names (often a quantised copy) is ignored; the given model must have the same
    shapes. Settings that this version of peft does not know are left out.

    Args:
        model: of `transformers`.
        folder: with `adapter_config.json` and `adapter_model.safetensors`.
        merge: add it to the weights, which is faster; not for weights in four bits.

    Raises:
        InputError: the folder is not an adapter, or it was made for another model.
    """
    peft = require("peft", extra=EXTRA, purpose=f"adapter {folder}")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise InputError(
                f"adapter {folder}: has no {name}; give a folder that save_pretrained of peft wrote, as safetensors"
            )
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        config_class = type(peft.get_peft_config({"peft_type": config["peft_type"]}))
        known = {each.name for each in dataclasses.fields(config_class)}
        settings = {name: value for name, value in config.items() if name in known}
        # The base may be a quantised or patched copy that is not here.
        settings |= {"base_model_name_or_path": None, "inference_mode": True}
        state = load_file(folder / "adapter_model.safetensors")
        _resize_embeddings(model, state)
        with warnings.catch_warnings(action="ignore"):
            result = peft.PeftModel(model, peft.PeftConfig.from_peft_type(**settings))
            report = peft.set_peft_model_state_dict(result, state)
    except Exception as error:  # the library passes on anything that its parts raise
        raise InputError(
            f"adapter {folder}: does not fit the language model ({first_line(error)}); give the one it was made for"
        ) from None
    # peft ignores weights without a counterpart silently, and the model would answer as if without them.
    # Embeddings of added tokens occur under two names, of which peft knows one.
    unused = [
        name
        for name in report.unexpected_keys
        if ".modules_to_save" not in name or name.replace(".modules_to_save", "") not in state
    ]
    unused += [name for name in report.missing_keys if "lora_" in name]
    if unused:
        raise InputError(
            f"adapter {folder}: does not fit the language model ({len(unused)} weights have no counterpart, such as "
            f"{sorted(unused)[0]}); give the one it was made for"
        )
    return result.merge_and_unload() if merge else result


def _resize_embeddings(model: Any, state: Mapping[str, Tensor]) -> None:
    """Add embeddings for the tokens that an adapter adds."""
    table = model.get_input_embeddings()
    name = next(name for name, module in model.named_modules() if module is table)
    rows = next((len(value) for key, value in state.items() if key.endswith(f"{name}.weight")), None)
    if rows is not None and rows != len(table.weight):
        model.resize_token_embeddings(rows, mean_resizing=False)


def add_lora(model: Any, rank: int) -> Any:
    """A frozen language model with trainable low-rank changes (Hu et al., *LoRA*, 2021), the vision encoder left out.

    Raises:
        InputError: the model has no linear layer.
    """
    peft = require("peft", extra=EXTRA, purpose="--lora")
    # GPT-2's linear layer.
    conv1d = require("transformers.pytorch_utils", extra=EXTRA, purpose="--lora").Conv1D
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | conv1d) and not any(part in name for part in _NOT_ADAPTED)
    ]
    if not names:
        raise InputError(f"--lora: {type(model).__name__} has no linear layers to change; leave it out")
    return peft.get_peft_model(model, peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names))


def _files_digest(folder: Path) -> str:
    """SHA-256 over settings, tokenizer, template, and of each weight file its size and both ends."""
    digest = hashlib.sha256()
    for path in sorted(each for kind in ("*.json", "*.jinja", "*.safetensors") for each in folder.glob(kind)):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as handle:
            digest.update(handle.read(_SAMPLED))
            handle.seek(max(0, size - _SAMPLED))
            digest.update(handle.read())
    return digest.hexdigest()
