"""How the machine gives events to its parts."""

import inspect
import re
from typing import get_args

import pytest

from pool_service.core import machine
from pool_service.core.events import Event

HAPPENED = [one for one in get_args(Event) if not one.__name__.endswith(("Requested", "Escalated"))]
"""The events that say what happened; the others say what was asked for."""


@pytest.mark.parametrize("event", HAPPENED)
def test_the_handler_of_what_happened_has_the_name_of_the_event(event: type) -> None:
    handler = "on" + re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", event.__name__)
    assert f"{handler}(" in inspect.getsource(machine)
