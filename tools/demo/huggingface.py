"""A Hugging Face directory: the files of a checkpoint that vllm-mlx can serve."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx

Json = dict[str, Any]


def write_json(path: Path, content: Json) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def write_weights(directory: Path, weights: Mapping[str, mx.array]) -> None:
    path = directory / "model.safetensors"
    mx.save_safetensors(str(path), dict(weights), metadata={"format": "mlx"})


def write_tokenizer(
    directory: Path,
    tokens: Sequence[str],
    special: Sequence[str],
    settings: Json,
    merges: Sequence[str] = (),
) -> None:
    """Write a byte-level BPE tokenizer.

    Args:
        directory: where the checkpoint is.
        tokens: all tokens; a token's place is its id.
        special: those of `tokens` that text is split at, before anything else.
        settings: of tokenizer_config.json: the roles of special tokens, the chat template.
        merges: pairs of tokens with a space between, the first to merge first.
    """
    ids = {token: number for number, token in enumerate(tokens)}
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    digits = {"type": "Digits", "individual_digits": True}
    tokenizer: Json = {
        "version": "1.0",
        "added_tokens": [special_token(token, ids[token]) for token in special],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, byte_level]},
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": ids, "merges": [pair.split(" ") for pair in merges]},
    }
    write_json(directory / "tokenizer.json", tokenizer)
    common: Json = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
    }
    write_json(directory / "tokenizer_config.json", common | settings)


def special_token(token: str, number: int) -> Json:
    exactly: Json = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": number, "content": token, "special": True} | exactly
