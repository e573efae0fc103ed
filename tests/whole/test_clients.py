"""Each client against the real vllm-mlx: what tests/conformance tries at length, in short.

What is not built of a client is built; one whose toolchain is missing is left out.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pool_service_client import ADDRESS_VARIABLE, PoolClient, ServerChanged
from tests.conformance.languages import LANGUAGES, NOTHING_IS_LEFT_OUT, Language, NoToolchain
from tests.conformance.runners import Runner
from tests.idle import await_idle
from tools.demo.checkpoints import write_tiny_llama
from tools.demo.service import RunningService, running
from tools.demo.smollm2 import prepare_smollm2

pytestmark = [pytest.mark.whole, pytest.mark.timeout(1800)]

CONFIG = """
[defaults]
arguments = ["--max-tokens", "24", "--default-temperature", "0"]
[models.smollm2]
runtime_model = "{smollm2}"
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_llama(directory)
    return str(directory)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    root = tmp_path_factory.mktemp("clients")
    smollm2 = prepare_smollm2(Path(".cache/models"), print).absolute()
    config = root / "config.toml"
    config.write_text(CONFIG.format(smollm2=smollm2))
    with running(root / "state", arguments=["--config", str(config)]) as one:
        yield one


@pytest.fixture(params=LANGUAGES, ids=lambda language: language.key)
def language(request: pytest.FixtureRequest) -> Language:
    one: Language = request.param
    try:
        one.build()
    except NoToolchain as why:
        if NOTHING_IS_LEFT_OUT:
            raise
        pytest.skip(str(why))
    return one


@pytest.fixture
def environment(service: RunningService) -> dict[str, str]:
    return {**os.environ, ADDRESS_VARIABLE: service.address}


@pytest.fixture
def runner(language: Language, environment: dict[str, str], tmp_path: Path) -> Iterator[Runner]:
    command = language.command(language.runner)
    one = Runner(command, language.directory, environment, tmp_path / "stderr")
    yield one
    assert one.close() == 0


def await_unused(service: RunningService, model: str) -> None:
    """Return when the service counts no hold of the model: that is after its client let it go."""
    with PoolClient.connect(service.address) as pool, pool.watch() as events:
        for event in events:
            match event:
                case ServerChanged(server=server) if server.model == model and not server.holds:
                    return


def test_a_hold_leads_inferences_over_the_death_of_a_real_server(
    service: RunningService, runner: Runner, language: Language, tiny: str
) -> None:
    client = runner.begin("connect")
    assert "result" in client.end()
    model = f"{language.key}/tiny"
    hold = runner.begin("hold", client=client.number, model=model, runtime_model=tiny)
    first = runner.ask("ready", hold=hold.number, timeout=120)["server"]
    asked = {"hold": hold.number, "count": 10, "text": "hello"}
    assert runner.ask("infer", **asked) == {"done": 10, "failed": 0}
    assert runner.ask("calls", client=client.number) == {"Hold": 1}
    os.killpg(first["pid"], signal.SIGKILL)
    after = first["generation"]
    second = runner.ask("ready", hold=hold.number, after=after, timeout=120)["server"]
    assert (second["generation"], second["state"]) == (after + 1, "READY")
    assert runner.ask("infer", **asked) == {"done": 10, "failed": 0}
    made = runner.ask("calls", client=client.number)
    # Whether the first one lives was asked unless the hold had told of its end.
    assert made.pop("Get", 0) <= 1
    assert made == {"Hold": 1}
    runner.ask("release", hold=hold.number)
    await_unused(service, model)
    await_idle(second["endpoint"])
    evict = runner.begin("evict", client=client.number, model=model)
    (evicted,) = evict.end()["result"]["evicted"]
    assert not evicted["killed"]


def test_the_chat_example_streams_what_a_real_model_says(
    language: Language, environment: dict[str, str]
) -> None:
    question = "What is the capital of France?"
    ran = subprocess.run(
        [*language.command(language.chat), "smollm2", question],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "Paris" in ran.stdout
