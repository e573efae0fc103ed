"""The table: areas, and the scenarios of each."""

from collections.abc import Mapping, Sequence

from tests.conformance.scenario import Scenario
from tests.conformance.scenarios import (
    access,
    addresses,
    calls,
    deaths,
    descriptions,
    encryption,
    holds,
    hostile,
    keys,
    logs,
    newer,
    refusals,
    retries,
    starts,
)

AREAS: Mapping[str, Sequence[Scenario]] = {
    "each call": calls.SCENARIOS,
    "each reason": (*refusals.SCENARIOS, *starts.SCENARIOS),
    "retries, limits and giving up": retries.SCENARIOS,
    "holds": holds.SCENARIOS,
    "logs": logs.SCENARIOS,
    "tokens": access.SCENARIOS,
    "TLS": encryption.SCENARIOS,
    "keys of servers": keys.SCENARIOS,
    "descriptions": descriptions.SCENARIOS,
    "deaths": deaths.SCENARIOS,
    "services that are newer, odd or elsewhere": (
        *newer.SCENARIOS,
        *addresses.SCENARIOS,
        *hostile.SCENARIOS,
    ),
}
