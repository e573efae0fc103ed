"""Claims about which files of weights are taken to be loaded, and when all of them are there."""

import pytest

from pool_service.adapters.models.weight_files import weight_files


def shards(count: int, stem: str = "model", *, first: int = 1) -> set[str]:
    return {f"{stem}-{first + n:05}-of-{count:05}.safetensors" for n in range(count)}


MODEL = {"model.safetensors"}
CONSOLIDATED = {"consolidated.safetensors"}
HALF = shards(3) - {"model-00002-of-00003.safetensors"}
BINS = {"pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"}


@pytest.mark.parametrize(
    ("files", "named", "loaded", "complete"),
    [
        pytest.param(MODEL, shards(13), MODEL, True, id="one file, index of thirteen"),
        pytest.param(shards(3), shards(13), shards(3), True, id="another number of shards"),
        pytest.param(shards(3), MODEL, shards(3), True, id="shards, index of one file"),
        pytest.param(shards(2, first=0), MODEL, shards(2, first=0), True, id="counted from 0"),
        pytest.param(shards(2, "model.fp16"), MODEL, shards(2, "model.fp16"), True, id="stem"),
        pytest.param(MODEL, {"../model.safetensors"}, MODEL, True, id="index that leaves"),
        pytest.param(MODEL, {"sub/model.safetensors"}, MODEL, True, id="index of a directory"),
        pytest.param(MODEL, {"5", "None"}, MODEL, True, id="index of no names"),
        pytest.param(MODEL | CONSOLIDATED, shards(2), MODEL, True, id="consolidated beside"),
        pytest.param(MODEL | BINS, set(), MODEL, True, id="another format beside"),
        pytest.param(shards(2), shards(2), shards(2), True, id="as the index says"),
        pytest.param(MODEL | shards(2), shards(2), shards(2), True, id="both, index of shards"),
        pytest.param(MODEL | HALF, set(), MODEL, True, id="whole one beside remains"),
        pytest.param({"weights.00.safetensors"}, set(), {"weights.00.safetensors"}, True, id="old"),
        pytest.param(HALF, shards(3), HALF, False, id="one has not arrived"),
        pytest.param(HALF, set(), HALF, False, id="one has not arrived, no index"),
        pytest.param(HALF, shards(13), HALF, False, id="one has not arrived, index of others"),
        pytest.param(MODEL, MODEL | {"../x"}, MODEL, False, id="some of the index is there"),
        pytest.param(
            {"model-mtp.safetensors"},
            shards(3),
            {"model-mtp.safetensors"},
            False,
            id="what arrived first",
        ),
        pytest.param(CONSOLIDATED, shards(3), CONSOLIDATED, False, id="consolidated first"),
        pytest.param(CONSOLIDATED, set(), CONSOLIDATED, False, id="consolidated alone"),
        pytest.param(
            {"adapters.safetensors"}, set(), {"adapters.safetensors"}, False, id="an adapter"
        ),
        pytest.param(
            shards(2, "tokenizer"), MODEL, shards(2, "tokenizer"), False, id="shards of others"
        ),
        pytest.param(BINS, set(), BINS, False, id="in a format that is not loaded"),
        pytest.param(set(), shards(2), set(), False, id="nothing"),
    ],
)
def test_the_files_that_a_loader_takes_decide(
    files: set[str], named: set[str], loaded: set[str], complete: bool
) -> None:
    chosen = weight_files(dict.fromkeys(files, 10), named)
    assert (set(chosen.names), chosen.complete) == (loaded, complete)


def test_of_two_whole_models_without_an_index_the_larger_counts() -> None:
    """A loader takes both, and keeps each of the tensors once."""
    sizes = {"model.safetensors": 50} | dict.fromkeys(shards(2), 30)
    assert weight_files(sizes, ()).names == shards(2)


def test_a_name_that_claims_a_billion_shards_costs_nothing() -> None:
    chosen = weight_files({"model-00001-of-999999999.safetensors": 1}, ())
    assert not chosen.complete
