"""Each scenario of the table, for each language."""

import pytest

from tests.conformance.languages import LANGUAGES, Language
from tests.conformance.scenario import Scenario
from tests.conformance.scenarios import AREAS
from tests.conformance.theatre import Theatre

CASES = [
    pytest.param(area, scenario, language, id=f"{scenario.claim}-{language.key}")
    for area, scenarios in AREAS.items()
    for scenario in scenarios
    for language in LANGUAGES
]


@pytest.mark.parametrize(("area", "scenario", "language"), CASES)
def test_it_holds(
    theatre: Theatre, area: str, scenario: Scenario, built: Language, language: Language
) -> None:
    why_not = scenario.left_out(language)
    if why_not:
        pytest.skip(why_not)
    theatre.play(scenario, built)
