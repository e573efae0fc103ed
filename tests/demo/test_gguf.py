"""The conversion, on a GGUF file made here."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from tokenizers import Tokenizer

from tools.demo.gguf import convert, dequantized, hugging_face_name

TOKENS = ["<end>", "<start>", "h", "i", "hi", "1", "2", "Ġ"]


def metadata(architecture: str) -> dict[str, Any]:
    numbers = {
        "llama.embedding_length": 32,
        "llama.feed_forward_length": 64,
        "llama.block_count": 1,
        "llama.attention.head_count": 2,
        "llama.attention.head_count_kv": 1,
        "llama.context_length": 128,
        "llama.vocab_size": len(TOKENS),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.unknown_token_id": 0,
    }
    return {key: mx.array(value) for key, value in numbers.items()} | {
        "general.architecture": architecture,
        "llama.attention.layer_norm_rms_epsilon": mx.array(1e-5),
        "llama.rope.freq_base": mx.array(10000.0),
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": mx.array([3, 3, 1, 1, 1, 1, 1, 1]),
        "tokenizer.ggml.merges": ["h i"],
        "tokenizer.chat_template": "{{ messages }}",
    }


def gguf_file(directory: Path, architecture: str = "llama") -> Path:
    path = directory / "model.gguf"
    weights = {
        "token_embd.weight": mx.ones((len(TOKENS), 32), dtype=mx.float16),
        "blk.0.attn_q.weight": mx.full((32, 32), 0.5, dtype=mx.float16),
    }
    mx.save_gguf(str(path), weights, metadata(architecture))
    return path


def test_a_llama_becomes_a_hugging_face_directory(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    convert(gguf_file(tmp_path), target)
    config = json.loads((target / "config.json").read_text())
    assert config["model_type"] == "llama"
    assert config["rope_traditional"] is True
    assert (config["hidden_size"], config["num_key_value_heads"]) == (32, 1)
    weights = mx.load(str(target / "model.safetensors"))
    assert isinstance(weights, dict)
    assert {name: value.dtype for name, value in weights.items()} == {
        "model.embed_tokens.weight": mx.float32,
        "model.layers.0.self_attn.q_proj.weight": mx.float32,
    }


def test_the_tokenizer_merges_and_splits_digits(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    convert(gguf_file(tmp_path), target)
    tokenizer = Tokenizer.from_file(str(target / "tokenizer.json"))
    encoding = tokenizer.encode("<start>hi 12<end>")
    assert encoding.tokens == ["<start>", "hi", "Ġ", "1", "2", "<end>"]
    assert tokenizer.decode(encoding.ids) == "hi 12"


@pytest.mark.parametrize("bits", [4, 8])
def test_quantized_weights_come_out_as_they_went_in(bits: int) -> None:
    full = mx.random.normal((4, 64), key=mx.random.key(1))
    packed, scales, biases = mx.quantize(full, group_size=32, bits=bits)
    stem = "blk.11.ffn_down"
    quantized = {f"{stem}.weight": packed, f"{stem}.scales": scales, f"{stem}.biases": biases}
    result = dict(dequantized(quantized))
    assert list(result) == ["model.layers.11.mlp.down_proj.weight"]
    [value] = result.values()
    assert mx.allclose(value, full, atol=0.3 if bits == 4 else 0.02)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.gguf is no Llama"):
        convert(gguf_file(tmp_path, "mamba"), tmp_path)


def test_names_outside_of_layers() -> None:
    assert hugging_face_name("output_norm") == "model.norm"
