"""Claims about whose fault a refused start is: the model's, its arguments', or the runtime's."""

import pytest

from pool_service.core.blame import blamed_argument
from pool_service.core.error_texts import start_failure
from pool_service.core.errors import ModelRejected, RuntimeUnavailable
from pool_service.core.server import Phase, Server
from pool_service.core.types import Diagnosis, ExitReport, LaunchPlan, Settings

NO_MCP = "loading it failed (FileNotFoundError: MCP config file not found: /none.json)"
NO_ID = "it is neither a directory nor an id (Repo id must be in the form 'a/b': '/local/dir')"
NEEDS = "it refuses its options (Error: --enable-auto-tool-choice requires --tool-call-parser)"
CHOICE = "it does not know an option (vllm-mlx serve: error: argument --reasoning-parser: invalid)"


@pytest.mark.parametrize(
    ("arguments", "words", "blamed"),
    [
        (("--mcp-config", "/none.json"), NO_MCP, "--mcp-config /none.json"),
        (("--mcp-config=/none.json",), NO_MCP, "--mcp-config /none.json"),
        (("--mllm", "--rerank-model", "/local/dir"), NO_ID, "--rerank-model /local/dir"),
        (("--enable-auto-tool-choice",), NEEDS, "--enable-auto-tool-choice"),
        (("--reasoning-parser", "nope"), CHOICE, "--reasoning-parser"),
        (
            ("--embedding-model", "org/e"),
            "no such model (404 for org/e)",
            "--embedding-model org/e",
        ),
        ((), NEEDS, None),
        (("--max-num-seqs", "4"), "died 4 times", None),
        (("--reasoning-parser", "qwen3"), "architecture 'qwen3' is not supported", None),
        (("--draft-model", "org/m"), "loading org/m-big failed", None),
        (("--max-tokens", "5"), "x--max-tokens-y", None),
    ],
)
def test_an_argument_is_blamed_where_the_runtime_names_it(
    arguments: tuple[str, ...], words: str, blamed: str | None
) -> None:
    assert blamed_argument(words, Settings("org/m-big", arguments=arguments)) == blamed


def refused(diagnosis: Diagnosis, words: str, settings: Settings) -> Exception:
    server = Server("m", settings, Phase.STARTING, 1, 0.0, 0.0, 300.0)
    return start_failure(server, ExitReport(1, None, diagnosis, words))


def test_a_fault_of_the_arguments_is_told_with_the_section_that_holds_it() -> None:
    arguments = ("--mcp-config", "/none.json")
    settings = Settings("org/m", arguments=arguments, arguments_section='[models."m"]')
    error = refused(Diagnosis.MODEL_REJECTED, NO_MCP, settings)
    assert isinstance(error, RuntimeUnavailable)
    assert 'Correct [models."m"] arguments in the configuration' in str(error)


def test_a_fault_of_the_command_is_told_with_the_section_of_its_runtime() -> None:
    assert "Correct [runtime] in" in str(
        refused(Diagnosis.RUNTIME_UNUSABLE, NEEDS, Settings("org/m"))
    )
    named = refused(Diagnosis.RUNTIME_UNUSABLE, NEEDS, Settings("org/m", runtime="other"))
    assert "Correct [runtimes.other] in" in str(named)


def test_a_fault_of_the_runtimes_command_is_not_the_models() -> None:
    settings = Settings("/models/m", runtime="other")
    argv = ("/bin/vllm-mlx", "serve", "/models/m", "--served-model-name", "org/m")
    words = {NO_MCP: RuntimeUnavailable, "cannot load '/models/m' as 'org/m'": ModelRejected}
    for what, kind in words.items():
        command = (*argv, "--mcp-config", "/none.json")
        plan = LaunchPlan(command, (), None, "/health", "org/m", "n", kind="vllm-mlx")
        server = Server("org/m", settings, Phase.STARTING, 1, 0.0, 0.0, 300.0, plan=plan)
        error = start_failure(server, ExitReport(1, None, Diagnosis.MODEL_REJECTED, what))
        assert type(error) is kind
        if kind is RuntimeUnavailable:
            assert "with the argument --mcp-config /none.json of its runtime" in str(error)
            assert "Correct [runtimes.other] command in the configuration" in str(error)


def test_a_fault_of_the_model_remains_the_models() -> None:
    settings = Settings("org/m", arguments=("--mllm",))
    error = refused(Diagnosis.MODEL_REJECTED, "architecture 'x' is not supported", settings)
    assert isinstance(error, ModelRejected)
