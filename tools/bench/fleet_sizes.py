"""Fleets of up to 1,000 hosts and 10,000 models, by the decisions of a front alone and on paper.

    python -m tools.bench.fleet_sizes [HOSTS MODELS]

Feeds the front's machine as its driver does, without gRPC, in seconds of processor, and takes the
least of several runs, which other programs disturb least. Without arguments it measures all sizes,
each in a process of its own, and prints a table of them, and one of the messages that a front of
that size exchanges, by the sizes of real messages. With arguments it measures one size, and prints
it as JSON.
"""

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count, islice

import psutil

from pool_service.fleet.core import commands as cmd
from pool_service.fleet.core import events as ev
from pool_service.fleet.core.machine import Machine
from pool_service.fleet.core.values import (
    CatalogueNames,
    Lead,
    Offer,
    Report,
    SeenServer,
    ServerState,
    Verdict,
)
from pool_service.v1 import pool_service_pb2 as pb
from tools.bench.report import number
from tools.bench.scripted_members import Member

SIZES = ((3, 30), (16, 160), (16, 8000), (100, 1000), (300, 3000), (1000, 10_000))
"""Hosts and models, of which each has a server."""

FEW = 8
"""The members that are asked for offers if a front does not ask all."""

ROUNDS = 7
LOST_AFTER_S = 3.0
MESSAGE_BYTES = 400
"""A server's message, with its paths and times."""

COLUMNS = {
    "warm": "warm Ensure, µs",
    "placed": "placing, all asked, µs",
    "placed_of_few": f"placing, {FEW} answer, µs",
    "herd": "placing, 100 at once, µs each",
    "beat": "beat, µs",
    "change": "change of a server, µs",
    "lost": "a member lost and back, ms",
    "told": "start: all members tell, ms",
    "mib": "state, MiB",
}


MESSAGES = {
    "beats": "beats a second",
    "beat_kb": "their bytes a second, kB",
    "asked": "offers of a placing, all asked",
    "asked_kb": "their bytes, kB",
    "told_mb": "start: all servers, MB",
    "own_mb": "start: catalogues, each model in one, MB",
    "same_mb": "start: catalogues, each model in all, MB",
}

BEAT_S = 0.5


class Front:
    """A front's machine, fed as its driver does."""

    def __init__(self, hosts: int, models: int) -> None:
        self.machine = Machine("front", LOST_AFTER_S)
        self.now = 0.0
        self.hosts = [f"host{number}" for number in range(hosts)]
        self.models = [f"organisation/model-{number}" for number in range(models)]
        self.ids = count(1)
        self._is_settled = False
        self.told = {host: tuple(self._servers(place)) for place, host in enumerate(self.hosts)}

    def feed(self, event: ev.Event) -> list[cmd.Command]:
        """Handle an event, and ask what the driver asks after each."""
        commands = self.machine.handle(event, self.now)
        self._is_settled = self._is_settled or self.machine.is_settled
        self.machine.next_deadline()
        return commands

    def start(self) -> None:
        """Let all members tell what they have, and hear who leads."""
        self.feed(ev.LeadChanged(Lead(leads=True)))
        self.feed(ev.MembersListed({host: f"{host}:1" for host in self.hosts}))
        for host in self.hosts:
            self.feed(ev.BeatAnswered(host, Report()))
            self.feed(ev.CatalogueTold(host, self._names(host)))
            self.feed(ev.MemberTold(host, self.told[host], 1))
        for host in self.hosts:
            self.feed(ev.BeatAnswered(host, self.report))

    @property
    def report(self) -> Report:
        """What a member says that has heard this front."""
        return Report(epoch=self.machine.epoch, front="front", front_heard=0.0)

    def place(self, model: str, answering: int) -> None:
        """Place a model by the offers of some members, and forget it again."""
        self.unplace(self._decided(*self._asked(model), answering))

    def place_many(self, models: list[str]) -> None:
        """Place models that are asked for at once, and forget them again."""
        asked = [self._asked(model) for model in models]
        for one in [self._decided(*one, len(self.hosts)) for one in asked]:
            self.unplace(one)

    def unplace(self, request_id: int) -> None:
        self.feed(ev.SeatLeft(request_id))

    def _asked(self, model: str) -> tuple[int, int]:
        """Ask for a model; return the ids of the call and of its placing."""
        request_id = next(self.ids)
        commands = self.feed(ev.SeatRequested(request_id, model))
        (asked,) = [one for one in commands if isinstance(one, cmd.AskOffers)]
        return request_id, asked.round_id

    def _decided(self, request_id: int, round_id: int, answering: int) -> int:
        offers = {
            host: Offer(
                Verdict.FITS, "", on_disk=True, usual_load=9.0, needed=8, free=64, revision=1
            )
            for host in islice(self.hosts, answering)
        }
        (answer,) = self.feed(ev.OffersCame(round_id, offers))
        assert isinstance(answer, cmd.Answer)
        return request_id

    def lose_and_see(self, host: str) -> None:
        """Lose a member, and let it tell the same again."""
        self.feed(ev.SightLost(host, "cut"))
        self.now += LOST_AFTER_S
        self.feed(ev.TimeReached())
        self.feed(ev.BeatAnswered(host, self.report))
        self.feed(ev.MemberTold(host, self.told[host], 1))

    def _servers(self, place: int) -> Iterator[SeenServer]:
        for model in self.models[place :: len(self.hosts)]:
            yield SeenServer(
                self.hosts[place],
                model,
                1,
                ServerState.READY,
                needed=8,
                runtime_model=f"{model}-4bit",
                revision=1,
                message=bytes(MESSAGE_BYTES),
            )

    def _names(self, host: str) -> CatalogueNames:
        mine = [one.model for one in self.told[host]]
        return CatalogueNames({f"{model}:latest": model for model in mine}, tuple(sorted(mine)))


def measure(hosts: int, models: int) -> dict[str, float]:
    """Return the costs of one size, in the units of COLUMNS."""
    process = psutil.Process()
    front = Front(hosts, models)
    gc.collect()
    before = process.memory_info().rss
    started = _seconds(front.start, 1)
    gc.collect()
    state = process.memory_info().rss - before + len(front.models) * MESSAGE_BYTES
    ready, host = front.models[models // 2], front.hosts[hosts // 2]
    changed = front.told[host][0]
    herd = [f"new/{number}" for number in range(100)]
    return {
        "warm": _seconds(lambda: front.machine.at_once(ready), 1000) * 1e6,
        "placed": _seconds(lambda: front.place("new/model", hosts), 10) * 1e6,
        "placed_of_few": _seconds(lambda: front.place("new/model", FEW), 10) * 1e6,
        "herd": _seconds(lambda: front.place_many(herd), 1) * 1e6 / len(herd),
        "beat": _seconds(lambda: front.feed(ev.BeatAnswered(host, front.report)), 100) * 1e6,
        "change": _seconds(lambda: front.feed(ev.ServerChanged(changed)), 100) * 1e6,
        "lost": _seconds(lambda: front.lose_and_see(host), 3) * 1e3,
        "told": started * 1e3,
        "mib": state / 2**20,
    }


def _seconds(act: Callable[[], object], times: int) -> float:
    """Return the seconds of processor that an act takes: the least of several runs."""
    least = float("inf")
    for _ in range(ROUNDS if times > 1 else 1):
        began = time.process_time()
        for _ in range(times):
            act()
        least = min(least, (time.process_time() - began) / times)
    return least


def messages(hosts: int, models: int) -> dict[str, float]:
    """Return how much a front exchanges with members: payloads, without headers and TLS."""
    member = Member("host1", max(models // hosts, 1))
    server, model = member.servers[0].ByteSize(), member.model(member.servers[0]).ByteSize()
    name = member.servers[0].model
    beat = pb.BeatRequest(front="0123456789abcdef", epoch=7).ByteSize() + member.beat_size
    offer = pb.OfferRequest(model=name).ByteSize() + member.offer_to(name).ByteSize()
    return {
        "beats": hosts / BEAT_S,
        "beat_kb": hosts / BEAT_S * beat / 1e3,
        "asked": hosts,
        "asked_kb": hosts * offer / 1e3,
        "told_mb": models * server / 1e6,
        "own_mb": models * model / 1e6,
        "same_mb": hosts * models * model / 1e6,
    }


def main() -> None:
    """Print the costs of one size, or of all."""
    if sys.argv[1:]:
        print(json.dumps(measure(*map(int, sys.argv[1:]))))
        return
    _print_head(COLUMNS.values())
    for size in SIZES:
        words = [sys.executable, "-m", "tools.bench.fleet_sizes", *map(str, size)]
        told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        _print_row(size, json.loads(told), COLUMNS)
    print()
    _print_head(MESSAGES.values())
    for size in SIZES:
        _print_row(size, messages(*size), MESSAGES)


def _print_head(columns: Iterable[str]) -> None:
    names = ["hosts", "models", *columns]
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")


def _print_row(
    size: tuple[int, int], found: Mapping[str, float], columns: Mapping[str, str]
) -> None:
    cells = [f"{one:,}" for one in size] + [number(found[key]) for key in columns]
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
