"""The examples of each client, as a person runs them."""

import subprocess
from collections.abc import Sequence

import pytest

from tests.conformance.kinds import PLAIN
from tests.conformance.languages import LANGUAGES, Language
from tests.conformance.runners import LIMIT
from tests.conformance.theatre import Theatre

# The two Python clients have their examples in common.
WITH_EXAMPLES = [
    pytest.param(language, id=language.key) for language in LANGUAGES if language.key != "asyncio"
]


def output_of(theatre: Theatre, language: Language, program: Sequence[str], *words: str) -> str:
    ran = subprocess.run(
        [*language.command(program), *words],
        env=theatre.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


@pytest.mark.parametrize("language", WITH_EXAMPLES)
def test_the_first_example_prints_the_endpoint(theatre: Theatre, built: Language) -> None:
    model = f"{built.key}/example"
    printed = output_of(theatre, built, built.example, model)
    (server,) = (each for each in theatre.worlds.of(PLAIN, "").pool.list() if each.model == model)
    assert printed.split()[0] == server.endpoint


@pytest.mark.parametrize("language", WITH_EXAMPLES)
def test_the_chat_streams_the_answer_and_releases_the_model(
    theatre: Theatre, built: Language
) -> None:
    model = f"{built.key}/chat"
    assert output_of(theatre, built, built.chat, model, "Hello") == "t0 t1 t2 t3 t4 \n"
    theatre.worlds.of(PLAIN, "").await_pool(
        lambda servers: model in servers and servers[model].holds == 0
    )
