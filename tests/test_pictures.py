"""The pictures of a server's phases and states show the transitions that the core allows."""

import pytest

from tools.draw_states import PICTURES, pictures


@pytest.mark.parametrize("name", pictures())
def test_a_picture_is_as_it_is_drawn_from_the_transitions(name: str) -> None:
    assert (PICTURES / name).read_text() == pictures()[name], "run `make docs`"
