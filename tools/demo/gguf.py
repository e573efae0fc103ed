"""Converts a Llama in a GGUF file to a Hugging Face directory."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import mlx.core as mx

from tools.demo.huggingface import Json, write_json, write_tokenizer, write_weights

# Two scales are kept for each group of this many weights.
GROUP_SIZE: Final = 32
WEIGHTS_PER_WORD: Final = {4: 8, 8: 4}
SPECIAL_TOKEN: Final = 3
NAMES: Final = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_norm": "post_attention_layernorm",
}


def convert(gguf: Path, directory: Path) -> None:
    """Write the model of `gguf` into `directory`, dequantized to float32.

    A CPU computes with quantized weights some thirty times slower.

    Raises:
        ValueError: the file has another architecture than Llama.
    """
    loaded: Any = mx.load(str(gguf), return_metadata=True)
    weights, metadata = loaded
    if metadata.get("general.architecture") != "llama":
        raise ValueError(f"{gguf.name} is no Llama, and this converts nothing else")
    write_json(directory / "config.json", config(metadata))
    write_vocabulary(directory, metadata)
    write_weights(directory, dict(dequantized(weights)))


def config(metadata: Mapping[str, Any]) -> Json:
    def number(key: str) -> float:
        value: float = metadata[key].item()
        return value

    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": number("llama.embedding_length"),
        "intermediate_size": number("llama.feed_forward_length"),
        "num_hidden_layers": number("llama.block_count"),
        "num_attention_heads": number("llama.attention.head_count"),
        "num_key_value_heads": number("llama.attention.head_count_kv"),
        "max_position_embeddings": number("llama.context_length"),
        "rms_norm_eps": number("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": number("llama.rope.freq_base"),
        # GGUF keeps the two halves of each head interleaved; without this it says nothing.
        "rope_traditional": True,
        "tie_word_embeddings": True,
        "vocab_size": number("llama.vocab_size"),
        "bos_token_id": number("tokenizer.ggml.bos_token_id"),
        "eos_token_id": number("tokenizer.ggml.eos_token_id"),
        "pad_token_id": number("tokenizer.ggml.padding_token_id"),
        "torch_dtype": "float32",
    }


def write_vocabulary(directory: Path, metadata: Mapping[str, Any]) -> None:
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    kinds = metadata["tokenizer.ggml.token_type"].tolist()

    def role(name: str) -> str:
        number: int = metadata[f"tokenizer.ggml.{name}_token_id"].item()
        return tokens[number]

    settings: Json = {
        "bos_token": role("bos"),
        "eos_token": role("eos"),
        "pad_token": role("padding"),
        "unk_token": role("unknown"),
        "model_max_length": metadata["llama.context_length"].item(),
        "chat_template": metadata["tokenizer.chat_template"],
    }
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == SPECIAL_TOKEN]
    write_tokenizer(directory, tokens, special, settings, metadata["tokenizer.ggml.merges"])


def dequantized(weights: Mapping[str, mx.array]) -> Iterator[tuple[str, mx.array]]:
    for name, value in weights.items():
        stem, _, kind = name.rpartition(".")
        if kind != "weight":
            continue
        scales = weights.get(f"{stem}.scales")
        if scales is None:
            yield f"{hugging_face_name(stem)}.weight", value.astype(mx.float32)
            continue
        words_per_group = value.shape[-1] / scales.shape[-1]
        bits = next(
            bits for bits, per in WEIGHTS_PER_WORD.items() if words_per_group * per == GROUP_SIZE
        )
        full = mx.dequantize(
            value,
            scales.astype(mx.float32),
            weights[f"{stem}.biases"].astype(mx.float32),
            group_size=GROUP_SIZE,
            bits=bits,
        )
        yield f"{hugging_face_name(stem)}.weight", full


def hugging_face_name(stem: str) -> str:
    layer = re.fullmatch(r"blk\.(\d+)\.(\w+)", stem)
    if layer:
        return f"model.layers.{layer[1]}.{NAMES[layer[2]]}"
    return NAMES[stem]
