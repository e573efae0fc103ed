"""The tiny Llama of the demo as a GGUF file, for llama.cpp."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx

from tools.demo.checkpoints import CHAT_TEMPLATE, END, write_tiny_llama
from tools.demo.gguf import NAMES, SPECIAL_TOKEN

NORMAL_TOKEN = 1


def write_tiny_gguf(file: Path, directory: Path) -> None:
    """Write the checkpoint, which is also left in `directory`, as a GGUF file of some 500 kB."""
    write_tiny_llama(directory)
    config = json.loads((directory / "config.json").read_text())
    vocabulary = json.loads((directory / "tokenizer.json").read_text())["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    kinds = [SPECIAL_TOKEN if token == END else NORMAL_TOKEN for token in tokens]
    end, heads = mx.array(tokens.index(END), mx.uint32), config["num_attention_heads"]
    counts = {
        "llama.context_length": config["max_position_embeddings"],
        "llama.embedding_length": config["hidden_size"],
        "llama.block_count": config["num_hidden_layers"],
        "llama.feed_forward_length": config["intermediate_size"],
        "llama.attention.head_count": heads,
        "llama.attention.head_count_kv": config["num_key_value_heads"],
        "llama.rope.dimension_count": config["hidden_size"] // heads,
        "llama.vocab_size": len(tokens),
    }
    metadata: dict[str, mx.array | str | list[str]] = {
        "general.architecture": "llama",
        "general.name": "tiny",
        **{name: mx.array(count, mx.uint32) for name, count in counts.items()},
        "llama.attention.layer_norm_rms_epsilon": mx.array(config["rms_norm_eps"], mx.float32),
        "llama.rope.freq_base": mx.array(config["rope_theta"], mx.float32),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": mx.array(kinds, mx.int32),
        # llama.cpp wants a merge; this one leads to no token.
        "tokenizer.ggml.merges": ["~ ~"],
        "tokenizer.ggml.bos_token_id": end,
        "tokenizer.ggml.eos_token_id": end,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }
    weights: Any = mx.load(str(directory / "model.safetensors"))
    named = {gguf_name(name): value.astype(mx.float32) for name, value in weights.items()}
    mx.save_gguf(str(file), named, metadata)


def gguf_name(name: str) -> str:
    """Return llama.cpp's name of a tensor that has this name in a Llama of transformers."""
    stem, _, kind = name.rpartition(".")
    if stem == "lm_head":
        return f"output.{kind}"
    theirs = {ours: gguf for gguf, ours in NAMES.items()}
    if stem in theirs:
        return f"{theirs[stem]}.{kind}"
    _, _, layer, of_layer = stem.split(".", 3)
    return f"blk.{layer}.{theirs[of_layer]}.{kind}"
