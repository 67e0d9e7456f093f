"""Language models of several makes, built small: random weights, a tokenizer of few tokens, a chat template."""

import json
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TEXTS = (
    "A deep crack in the upper left, severe; grind it out and weld again.",
    "Oil on the lower right edge, minor; wipe it off. Cause: the press leaks.",
    "左上に深い亀裂があります。研磨して溶接し直してください。",
    "system user assistant What is wrong with this part? Describe it as JSON, please.",
)

LLAMA = """{{ bos_token }}{% for m in messages %}<|head|>{{ m['role'] }}<|neck|>

{{ m['content'] | trim }}<|turn|>{% endfor %}{% if add_generation_prompt %}<|head|>assistant<|neck|>

{% endif %}"""

QWEN = """{% for m in messages %}<|im_start|>{{ m['role'] }}
{{ m['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% endif %}{% endif %}"""

QWEN_VL = """{% for m in messages %}<|im_start|>{{ m['role'] }}
{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}{% if c['type'] == 'image' \
%}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

LLAVA = """{{ bos_token }}{% for m in messages %}{{ m['role'].upper() }}: {% for c in m['content'] | \
selectattr('type', 'equalto', 'image') %}<image>
{% endfor %}{% for c in m['content'] | selectattr('type', 'equalto', 'text') %}{{ c['text'] }}{% endfor %} {% endfor %}\
{% if add_generation_prompt %}ASSISTANT:{% endif %}"""

GEMMA = """{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System role not \
supported') }}{% endif %}<|head|>{{ m['role'] }}
{{ m['content'] | trim }}<|turn|>
{% endfor %}{% if add_generation_prompt %}<|head|>model
{% endif %}"""

SPECIAL = (
    "<pad>",
    "<s>",
    "</s>",
    "<|head|>",
    "<|neck|>",
    "<|turn|>",
    "<|im_start|>",
    "<|im_end|>",
    "<image>",
)
VISION_TOKENS = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")

TEMPLATES = {
    "llama": LLAMA,
    "qwen": QWEN,
    "qwen-vl": QWEN_VL,
    "qwen2-vl": QWEN_VL,
    "llava": LLAVA,
    "gemma": GEMMA,
    "gpt2": None,
}
ENDS = {"llama": "<|turn|>", "qwen": "<|im_end|>", "qwen-vl": "<|im_end|>", "qwen2-vl": "<|im_end|>"}
KINDS = tuple(TEMPLATES)
VISION_KINDS = ("qwen-vl", "qwen2-vl", "llava")

_SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def tokenizer_of(kind: str) -> transformers.PreTrainedTokenizerFast:
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=[*SPECIAL, *VISION_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bare.train_from_iterator(TEXTS, trainer=trainer)
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bare,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token=ENDS.get(kind, "</s>"),
        extra_special_tokens=[name for name in (*SPECIAL[3:], *VISION_TOKENS) if name != ENDS.get(kind)],
    )
    made.chat_template = TEMPLATES[kind]
    return made


def model_of(kind: str, tokenizer: transformers.PreTrainedTokenizerFast) -> torch.nn.Module:
    size, ids = len(tokenizer), tokenizer.convert_tokens_to_ids
    told = {"vocab_size": size, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": tokenizer.eos_token_id}
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}}
    vision = {
        "vision_start_token_id": ids("<|vision_start|>"),
        "vision_end_token_id": ids("<|vision_end|>"),
        "image_token_id": ids("<|image_pad|>"),
        "tie_word_embeddings": False,
    }
    torch.manual_seed(7)
    if kind == "llama":
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**_SHAPE, **told))
    if kind == "qwen":
        return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**_SHAPE, **told, head_dim=8))
    if kind == "gemma":
        return transformers.GemmaForCausalLM(transformers.GemmaConfig(**_SHAPE, **told, head_dim=8))
    if kind == "gpt2":
        return transformers.GPT2LMHeadModel(
            transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=512, **told)
        )
    if kind == "qwen-vl":
        extractors = {
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 4,
            "fullatt_block_indexes": [0],
        }
        return transformers.Qwen2_5_VLForConditionalGeneration(
            transformers.Qwen2_5_VLConfig(
                text_config={**_SHAPE, **told, **rope}, vision_config=extractors, **vision, **told
            )
        )
    if kind == "qwen2-vl":
        extractors = {
            "depth": 1,
            "embed_dim": 32,
            "hidden_size": 32,
            "num_heads": 2,
            "mlp_ratio": 1,
            "patch_size": 4,
        }
        return transformers.Qwen2VLForConditionalGeneration(
            transformers.Qwen2VLConfig(
                text_config={**_SHAPE, **told, **rope}, vision_config=extractors, **vision, **told
            )
        )
    text = transformers.LlamaConfig(**_SHAPE, **told)
    extractors = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        projection_dim=16,
    )
    return transformers.LlavaForConditionalGeneration(
        transformers.LlavaConfig(
            vision_config=extractors,
            text_config=text,
            image_token_index=ids("<image>"),
            vision_feature_layer=-1,
        )
    )


def language_model_folder(kind: str, folder: Path) -> Path:
    """A folder as the hub has them: configuration, safetensors, tokenizer and chat template."""
    tokenizer = tokenizer_of(kind)
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        model = model_of(kind, tokenizer)
    # Larger than the usual 0.02, so that a wrong place changes the scores by more than rounding does.
    for parameter in model.parameters():
        parameter.data *= 4 if parameter.ndim > 1 else 1
    model.save_pretrained(folder)
    return folder


def sentencepiece_like():
    """A tokenizer that puts ▁ in front of every text, as that of Llama 2 and Mistral does."""
    bare = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    bare.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bare.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=450,
        special_tokens=["<pad>", "<s>", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))],
        initial_alphabet=['"', "{", "}", ":", ",", "▁", "\n"],
        show_progress=False,
    )
    bare.train_from_iterator(TEXTS, trainer=trainer)
    # The tokens of single bytes had to be called special to be in the vocabulary, and are not.
    told = json.loads(bare.to_str())
    told["added_tokens"] = told["added_tokens"][:4]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(told)),
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )
