"""What a standby asks of mlx, with a stand-in for it: Metal's numbers, and a tiny model."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from pool_service.adapters.children.standby_child import generate, working_set, write_checkpoint


class Metal(ModuleType):
    """The part of mlx.core that is used; `called`: what it was told."""

    def __init__(self, **more: object) -> None:
        super().__init__("mlx.core")
        self.called: list[object] = []
        vars(self).update(more)

    def clear_cache(self) -> None:
        self.called.append("clear_cache")

    def reset_peak_memory(self) -> None:
        self.called.append("reset_peak_memory")

    def zeros(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    ones = zeros

    def save_safetensors(self, path: str, weights: dict[str, tuple[int, ...]]) -> None:
        Path(path).write_text(json.dumps(weights))


def with_metal(monkeypatch: pytest.MonkeyPatch, **more: object) -> Metal:
    metal, package = Metal(**more), ModuleType("mlx")
    vars(package)["core"] = metal
    monkeypatch.setitem(sys.modules, "mlx", package)
    monkeypatch.setitem(sys.modules, "mlx.core", metal)
    return metal


def info() -> dict[str, int]:
    return {"max_recommended_working_set_size": 96}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"metal": SimpleNamespace(is_available=lambda: True), "device_info": info}, 96),
        ({"metal": SimpleNamespace(is_available=lambda: True, device_info=info)}, 96),
        ({"metal": SimpleNamespace(is_available=lambda: False), "device_info": info}, None),
        ({"metal": SimpleNamespace(is_available=lambda: True), "device_info": dict}, None),
        ({}, None),
    ],
    ids=["Metal", "an older mlx", "no Metal", "nothing is recommended", "no part for Metal"],
)
def test_what_metal_recommends_is_told_if_it_says_so(
    more: dict[str, object], told: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_metal(monkeypatch, **more)
    assert working_set() == ({} if told is None else {"working_set": told})


def test_a_rehearsed_generation_gives_its_memory_back(monkeypatch: pytest.MonkeyPatch) -> None:
    metal, lm = with_metal(monkeypatch), ModuleType("mlx_lm")
    vars(lm)["load"] = lambda directory: (f"model of {directory}", "tokenizer", "more")
    vars(lm)["generate"] = lambda *given, **more: metal.called.append((given, more))
    monkeypatch.setitem(sys.modules, "mlx_lm", lm)
    generate("there")
    assert metal.called == [
        (("model of there", "tokenizer", "a"), {"max_tokens": 2}),
        "clear_cache",
        "reset_peak_memory",
    ]


def test_the_rehearsed_model_has_all_files_and_weights_of_a_llama(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_metal(monkeypatch)
    tokenizers = ModuleType("tokenizers")
    saved = SimpleNamespace(save=lambda path: Path(path).write_text("{}"))
    vars(tokenizers)["Tokenizer"] = lambda _model: saved
    vars(tokenizers)["models"] = SimpleNamespace(WordLevel=lambda **_: None)
    monkeypatch.setitem(sys.modules, "tokenizers", tokenizers)
    write_checkpoint(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("config.json", "tokenizer_config.json", "tokenizer.json", "model.safetensors"),
    }
    config = json.loads((tmp_path / "config.json").read_text())
    weights = json.loads((tmp_path / "model.safetensors").read_text())
    hidden = config["hidden_size"]
    assert weights["model.embed_tokens.weight"] == [config["vocab_size"], hidden]
    layer = {name for name in weights if name.startswith("model.layers.0.")}
    assert len(layer) == 4 + 3 + 2, "attention, MLP and norms"
    assert weights.keys() - layer == {"model.norm.weight", "model.embed_tokens.weight"}
    assert weights["model.layers.0.self_attn.q_proj.weight"] == [hidden, hidden]
    kind = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert kind["eos_token"] == "<end>"
