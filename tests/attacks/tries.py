"""Defines the goals of attackers, and the calls by which they try to reach them."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from google.protobuf.message import Message

from pool_service.v1 import pool_service_pb2 as pb
from tests.attacks.scene import BROKEN, IDLE, MINE, MODEL_BYTES, PROMPT, SECRET, UNLISTED, Scene
from tests.world import key_of


class Goal(StrEnum):
    """Names the goals of attackers."""

    START = "start a program"
    PROMPT = "read a prompt"
    MEMORY = "spend memory"
    OTHERS = "stop others' work"
    FILES = "read or write your files"
    MODELS = "learn which models exist"


Harm = Callable[[Scene], bool]


@dataclass(frozen=True)
class Try:
    """Calls for a goal. did_harm: returns whether they reached it."""

    goal: Goal
    did_harm: Harm
    calls: tuple[Message, ...]


def _loaded(runtime_model: str) -> Harm:
    return lambda scene: runtime_model in scene.loaded


def _told(what: str) -> Harm:
    return lambda scene: any(what.encode() in piece for piece in (*scene.answers, *scene.errors))


def _took(servers: int) -> Harm:
    """Return a check whether so many servers take memory for the attacker."""

    def did_harm(scene: Scene) -> bool:
        living = (one for one in scene.service.world.living if one.model in MINE)
        return sum(one.footprint for one in living) >= servers * MODEL_BYTES

    return did_harm


def _done(method: str) -> Harm:
    return lambda scene: scene.has_done(method)


def _answered(scene: Scene) -> bool:
    return bool(scene.answers)


def _disturbed(scene: Scene) -> bool:
    return scene.was_disturbed


def _fetched(scene: Scene) -> bool:
    return any(one.name == "fetch" for one in scene.service.world.calls[scene.calls_before :])


TRIES = {
    "start a listed model": Try(Goal.START, _loaded(MINE[0]), (pb.EnsureRequest(model=MINE[0]),)),
    "hold a listed model": Try(Goal.START, _loaded(MINE[0]), (pb.HoldRequest(model=MINE[0]),)),
    "start a model that is not listed": Try(
        Goal.START, _loaded(UNLISTED), (pb.EnsureRequest(model=UNLISTED),)
    ),
    "hold a model that is not listed": Try(
        Goal.START, _loaded(UNLISTED), (pb.HoldRequest(model=UNLISTED),)
    ),
    "read a log": Try(Goal.PROMPT, _told(PROMPT), (pb.TailLogsRequest(model=SECRET),)),
    "read the last lines of a log": Try(
        Goal.PROMPT, _told(PROMPT), (pb.DescribeRequest(model=BROKEN),)
    ),
    "read the last lines in an error": Try(
        Goal.PROMPT, _told(PROMPT), (pb.EnsureRequest(model=BROKEN),)
    ),
    "get the key of others' server": Try(
        Goal.PROMPT, _told(key_of(SECRET, 1)), (pb.EnsureRequest(model=SECRET),)
    ),
    "get the key of others' server by a hold": Try(
        Goal.PROMPT, _told(key_of(SECRET, 1)), (pb.HoldRequest(model=SECRET),)
    ),
    "take some memory": Try(Goal.MEMORY, _took(1), (pb.EnsureRequest(model=MINE[0]),)),
    "take more than half of the memory": Try(
        Goal.MEMORY, _took(2), tuple(pb.EnsureRequest(model=name) for name in MINE)
    ),
    "download a model": Try(Goal.MEMORY, _fetched, (pb.PullRequest(model=UNLISTED),)),
    "evict a server": Try(Goal.OTHERS, _disturbed, (pb.EvictRequest(model=IDLE),)),
    "evict a server by force": Try(
        Goal.OTHERS, _disturbed, (pb.EvictRequest(model=SECRET, force=True),)
    ),
    "evict all servers": Try(Goal.OTHERS, _disturbed, (pb.EvictRequest(all=True, force=True),)),
    "evict all servers that are not in use": Try(
        Goal.OTHERS, _disturbed, (pb.EvictRequest(idle=True),)
    ),
    "unpin a model": Try(Goal.OTHERS, _disturbed, (pb.PinRequest(model=SECRET, pinned=False),)),
    "have the configuration read again": Try(Goal.OTHERS, _done("Reload"), (pb.ReloadRequest(),)),
    "load other files under the name of a listed model": Try(
        Goal.FILES,
        _loaded(UNLISTED),
        (pb.EnsureRequest(model=MINE[0], runtime_model=UNLISTED),),
    ),
    "hold a server with other files": Try(
        Goal.FILES, _loaded(UNLISTED), (pb.HoldRequest(model=MINE[0], runtime_model=UNLISTED),)
    ),
    "ask about files": Try(Goal.FILES, _answered, (pb.DescribeRequest(model=UNLISTED),)),
    "list the servers": Try(Goal.MODELS, _told(SECRET), (pb.ListRequest(),)),
    "list the models": Try(Goal.MODELS, _told(SECRET), (pb.ListModelsRequest(found=True),)),
    "watch": Try(Goal.MODELS, _told(SECRET), (pb.WatchRequest(),)),
    "read who goes next": Try(Goal.MODELS, _told(SECRET), (pb.DescribeRequest(model=MINE[0]),)),
    "guess a name": Try(Goal.MODELS, _answered, (pb.DescribeRequest(model=SECRET),)),
}
