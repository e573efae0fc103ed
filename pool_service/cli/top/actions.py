"""Actions: the values that a key of `top` becomes, for the program to carry out."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quit:
    """End the program."""


@dataclass(frozen=True, slots=True)
class Ensure:
    """Make a model ready."""

    model: str


@dataclass(frozen=True, slots=True)
class Evict:
    """Stop the server of a model.

    again: why the service is asked once more whether the server is in use; empty: it is not.
    """

    model: str
    force: bool = False
    again: str = ""


@dataclass(frozen=True, slots=True)
class Pin:
    """Pin a model, or take its pin back."""

    model: str
    pinned: bool


@dataclass(frozen=True, slots=True)
class OpenLog:
    """Follow the log of a model."""

    model: str


@dataclass(frozen=True, slots=True)
class CloseLog:
    """Follow no log any more."""


@dataclass(frozen=True, slots=True)
class LookAtChoice:
    """Ask for more about the chosen model once the choice rests."""


@dataclass(frozen=True, slots=True)
class ListModels:
    """Ask for the models that the service knows."""


Call = Ensure | Evict | Pin
Action = Quit | Call | OpenLog | CloseLog | LookAtChoice | ListModels
