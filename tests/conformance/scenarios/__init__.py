"""The table: areas, and the scenarios of each."""

from collections.abc import Mapping, Sequence

from tests.conformance.scenario import Scenario
from tests.conformance.scenarios import calls

AREAS: Mapping[str, Sequence[Scenario]] = {
    "calls": calls.SCENARIOS,
}
