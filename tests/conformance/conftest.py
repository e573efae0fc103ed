"""The frame of the conformance tests: each scenario for each language, and their matrix."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.fronts import FrontWorld
from tests.conformance.languages import LANGUAGES, NOTHING_IS_LEFT_OUT, Language, NoToolchain
from tests.conformance.matrix import Matrix
from tests.conformance.scenario import Scenario
from tests.conformance.theatre import Theatre

MATRIX = Matrix({language.key: language.title for language in LANGUAGES})
"""Of this run: the hook that hears of outcomes is not told of which configuration."""

THEATRE, FRONT_THEATRE = "theatre", "front_theatre"
THEATRES = frozenset({THEATRE, FRONT_THEATRE})
"""The fixtures of tests that play with clients: at a service, or through a front."""

A_BUILD = 1800
"""Seconds that the first test of a language may take; each wait of a scenario has its own limit."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--conformance-matrix",
        metavar="PATH",
        help="write which scenario held for which client into this page, between its markers",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here not in item.path.parents:
            continue
        if not THEATRES.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.conformance)
            item.add_marker(pytest.mark.timeout(A_BUILD))
        parameters = parameters_of(item)
        if parameters is not None and THEATRE in getattr(item, "fixturenames", ()):
            area, scenario, language = parameters
            MATRIX.expect(item.nodeid, area, scenario.claim, language.key)
        if needs_toolchain(item) or FRONT_THEATRE in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.long)


def parameters_of(item: pytest.Item) -> tuple[str, Scenario, Language] | None:
    """What an item plays; None: it is another test."""
    found = getattr(item, "callspec", None)
    if found is None or "scenario" not in found.params:
        return None
    return found.params["area"], found.params["scenario"], found.params["language"]


def needs_toolchain(item: pytest.Item) -> bool:
    """Return whether an item runs a client that has to be built."""
    found = getattr(item, "callspec", None)
    language = found.params.get("language") if found is not None else None
    return isinstance(language, Language) and bool(language.toolchain)


@pytest.fixture(scope="package")
def theatre(request: pytest.FixtureRequest) -> Iterator[Theatre]:
    """With all that is to be played in this session.

    Its threads end with the last scenario: what runs after it in the same process may be a test
    that takes descriptors from the whole process.
    """
    theatre = Theatre(programme_of(request.session, THEATRE))
    yield theatre
    theatre.close()


@pytest.fixture(scope="module")
def front_theatre(request: pytest.FixtureRequest) -> Iterator[Theatre]:
    """The same, in which each world is a front before members."""
    theatre = Theatre(programme_of(request.session, FRONT_THEATRE), FrontWorld)
    yield theatre
    theatre.close()


def programme_of(session: pytest.Session, theatre: str) -> dict[Scenario, list[Language]]:
    """What is to be played in a theatre, by its scenario."""
    programme: dict[Scenario, list[Language]] = {}
    for item in session.items:
        parameters = parameters_of(item)
        if parameters is not None and theatre in getattr(item, "fixturenames", ()):
            _, scenario, language = parameters
            if not scenario.left_out(language):
                programme.setdefault(scenario, []).append(language)
    return programme


@pytest.fixture
def built(theatre: Theatre, language: Language) -> Language:
    """The language, if its client can be run."""
    return built_in(theatre, language)


@pytest.fixture
def built_for_fronts(front_theatre: Theatre, language: Language) -> Language:
    """The same, in the theatre of fronts."""
    return built_in(front_theatre, language)


def built_in(theatre: Theatre, language: Language) -> Language:
    try:
        return theatre.built(language)
    except NoToolchain as why:
        if NOTHING_IS_LEFT_OUT:
            raise
        pytest.skip(str(why))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    MATRIX.note(report)


def pytest_terminal_summary(config: pytest.Config) -> None:
    page = config.getoption("--conformance-matrix", None)
    if page and MATRIX.ran:
        MATRIX.write(Path(page))
