"""Each scenario of the table, for each language, through the front of a fleet."""

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
    if not scenario.left_out_of_fleets and not scenario.left_out(language)
]


@pytest.mark.parametrize(("area", "scenario", "language"), CASES)
def test_it_holds_through_a_front(
    front_theatre: Theatre,
    area: str,
    scenario: Scenario,
    built_for_fronts: Language,
    language: Language,
) -> None:
    front_theatre.play(scenario, built_for_fronts)
