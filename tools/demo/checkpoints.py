"""Tiny checkpoints with random weights, which say nothing and start fast.

The same call writes the same bytes. Only printable ASCII has a random score, of which the highest
is above the zero of all else: so greedy answers are text, and exactly as long as they may be.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import mlx.core as mx
from tokenizers.pre_tokenizers import ByteLevel

from tools.demo.huggingface import Json, write_json, write_tokenizer, write_weights

END: Final = "<end_of_utterance>"
IMAGE: Final = "<image>"
IMAGE_SPECIAL: Final = ("<fake_token_around_image>", IMAGE, END, "<global-img>")
CHAT_TEMPLATE: Final = (
    "{% for message in messages %}{{ message['role'] }}: "
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)

LAYERS: Final = 2
PATCH: Final = 14
IMAGE_SIZE: Final = 56
SCALE: Final = 2

Shapes = dict[str, tuple[int, ...]]


def write_tiny_llama(directory: Path) -> None:
    """Write a two-layer Llama, under 1 MB, into `directory`, which is made where missing.

    Raises:
        OSError: the directory can't be made or written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tokens = write_byte_tokenizer(directory, (END,))
    hidden, heads = 64, 4
    text = text_config("llama", len(tokens), hidden, heads)
    end = tokens.index(END)
    ids: Json = {"bos_token_id": end, "eos_token_id": end}
    write_json(directory / "config.json", text | ids | {"architectures": ["LlamaForCausalLM"]})
    shapes = llama_shapes("model", len(tokens), hidden)
    shapes["lm_head.weight"] = (len(tokens), hidden)
    write_weights(directory, random_weights(shapes, tokens))


def write_tiny_vlm(directory: Path) -> None:
    """Write a SmolVLM that takes images, under 1 MB, into `directory`, made where missing.

    Raises:
        OSError: the directory can't be made or written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tokens = write_byte_tokenizer(directory, IMAGE_SPECIAL)
    hidden, heads = 32, 2
    end = tokens.index(END)
    config: Json = {
        "architectures": ["SmolVLMForConditionalGeneration"],
        "model_type": "smolvlm",
        "vocab_size": len(tokens),
        "scale_factor": SCALE,
        "image_token_id": tokens.index(IMAGE),
        "bos_token_id": end,
        "eos_token_id": end,
        "text_config": text_config("llama", len(tokens), hidden, heads),
        "vision_config": vision_config(hidden, heads),
    }
    write_json(directory / "config.json", config)
    write_json(directory / "processor_config.json", processor_config())
    shapes = llama_shapes("model.text_model", len(tokens), hidden) | vision_shapes(hidden)
    shapes["model.connector.modality_projection.proj.weight"] = (hidden, hidden * SCALE**2)
    shapes["lm_head.weight"] = (len(tokens), hidden)
    write_weights(directory, random_weights(shapes, tokens))


def write_byte_tokenizer(directory: Path, special: tuple[str, ...]) -> list[str]:
    """Write a tokenizer with a token for each byte and for each of `special`; returns them all."""
    tokens = sorted(ByteLevel.alphabet()) + list(special)
    settings: Json = {
        "bos_token": END,
        "eos_token": END,
        "pad_token": END,
        "model_max_length": 8192,
        "chat_template": CHAT_TEMPLATE,
    }
    write_tokenizer(directory, tokens, special, settings)
    return tokens


def text_config(model_type: str, vocabulary: int, hidden: int, heads: int) -> Json:
    return {
        "model_type": model_type,
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    }


def vision_config(hidden: int, heads: int) -> Json:
    return {
        "model_type": "siglip_vision_model",
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": heads,
        "patch_size": PATCH,
        "image_size": IMAGE_SIZE,
        "num_channels": 3,
    }


def processor_config() -> Json:
    return {
        "processor_class": "SmolVLMProcessor",
        "image_seq_len": (IMAGE_SIZE // PATCH) ** 2 // SCALE**2,
        "image_processor": {
            "image_processor_type": "SmolVLMImageProcessor",
            "do_image_splitting": False,
            "size": {"longest_edge": IMAGE_SIZE},
            "max_image_size": {"longest_edge": IMAGE_SIZE},
        },
    }


def llama_shapes(prefix: str, vocabulary: int, hidden: int) -> Shapes:
    square, up, down = (hidden, hidden), (2 * hidden, hidden), (hidden, 2 * hidden)
    shapes: Shapes = {
        f"{prefix}.embed_tokens.weight": (vocabulary, hidden),
        f"{prefix}.norm.weight": (hidden,),
    }
    for layer in (f"{prefix}.layers.{number}" for number in range(LAYERS)):
        shapes |= {f"{layer}.self_attn.{name}_proj.weight": square for name in "qkvo"}
        shapes |= {f"{layer}.mlp.{name}_proj.weight": up for name in ("gate", "up")}
        shapes[f"{layer}.mlp.down_proj.weight"] = down
        shapes[f"{layer}.input_layernorm.weight"] = (hidden,)
        shapes[f"{layer}.post_attention_layernorm.weight"] = (hidden,)
    return shapes


def vision_shapes(hidden: int) -> Shapes:
    prefix = "model.vision_model"
    shapes: Shapes = {
        f"{prefix}.embeddings.patch_embedding.weight": (hidden, PATCH, PATCH, 3),
        f"{prefix}.embeddings.patch_embedding.bias": (hidden,),
        f"{prefix}.embeddings.position_embedding.weight": ((IMAGE_SIZE // PATCH) ** 2, hidden),
    }
    shapes |= with_bias(f"{prefix}.post_layernorm", (hidden,))
    for layer in (f"{prefix}.encoder.layers.{number}" for number in range(LAYERS)):
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= with_bias(f"{layer}.self_attn.{name}", (hidden, hidden))
        shapes |= with_bias(f"{layer}.mlp.fc1", (2 * hidden, hidden))
        shapes |= with_bias(f"{layer}.mlp.fc2", (hidden, 2 * hidden))
        shapes |= with_bias(f"{layer}.layer_norm1", (hidden,))
        shapes |= with_bias(f"{layer}.layer_norm2", (hidden,))
    return shapes


def with_bias(name: str, shape: tuple[int, ...]) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def random_weights(shapes: Shapes, tokens: list[str]) -> Mapping[str, mx.array]:
    keys = mx.random.split(mx.random.key(7), len(shapes))
    weights = {}
    for key, (name, shape) in zip(keys, shapes.items(), strict=True):
        weights[name] = 0.2 * mx.random.normal(shape, key=key)
        if len(shape) == 1 and name.endswith(".weight"):
            weights[name] += 1.0
    printable = [[len(token) == 1 and "!" <= token <= "~"] for token in tokens]
    weights["lm_head.weight"] *= mx.array(printable)
    return weights
