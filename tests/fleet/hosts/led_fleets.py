"""Fleets of several fronts, of which etcd chooses the leader, each on a host of its own."""

import base64
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO
from urllib.error import URLError

from tests.certificates import Authority
from tests.fleet.engines.etcd_process import ENVIRONMENT, EtcdProcess, coded
from tests.fleet.hosts.fronts import Front, FrontSettings, start_front
from tests.fleet.hosts.members import Member, Members, san_of
from tests.fleet.hosts.network import Host, Network

FRONTS = ("one", "other")
ETCD_PORT = 2379
FRONT_PORT = 6000
"""Where fronts listen for each other, at the addresses of their hosts."""

PREFIX = "tests"
LIMIT_S = 60.0
"""How long anything may take, on a machine that is busy."""

_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class EtcdHost:
    """An etcd that asks for certificates, on a host. directory: has the files of its clients.

    others: its further members, on other hosts.
    """

    host: Host
    process: EtcdProcess
    directory: Path
    others: tuple[EtcdProcess, ...] = ()

    @property
    def engine(self) -> str:
        """The etcd as configurations name it."""
        endpoints = ",".join(one.endpoint for one in (self.process, *self.others))
        return f"etcd:{endpoints}/{PREFIX}"

    def section(self, client: str = "client") -> str:
        """Return the section [etcd] of who shows the certificate of a client. "": shows none."""
        own = {"cert": f"{client}.pem", "key": f"{client}.key"} if client else {}
        names = {"ca": "ca.pem"} | own
        lines = [f'{key} = "{self.directory / name}"' for key, name in names.items()]
        return "\n".join(("[etcd]", *lines, ""))

    def issue(self, client: str, authority: Authority | None = None) -> None:
        """Write the certificate of a client. authority: None: the one that etcd believes."""
        issuing = authority or self.process.authority
        assert issuing is not None
        issuing.issue(common_name=client).write(self.directory, client)

    def get(self, key: str) -> str | None:
        """Return the value of a key below the prefix; None if there is none."""
        found = self.process.ask("kv/range", key=coded(f"{PREFIX}/{key}")).get("kvs")
        return base64.b64decode(found[0]["value"]).decode() if found else None


def start_etcd(host: Host, *others: Host) -> EtcdHost:
    """Start an etcd on a host, and return once it answers.

    others: where it has further members, whose endpoints it knows.
    """
    authority = Authority("of etcd")
    hosts = (host, *others)
    cluster = {one.name: one.address for one in hosts} if others else None
    processes = [_etcd_on(one, authority, cluster) for one in hosts]
    for process in processes:
        process.begin()
    for process in processes:
        process.wait()
    etcd = EtcdHost(host, processes[0], processes[0].directory, tuple(processes[1:]))
    etcd.issue("client")
    return etcd


def _etcd_on(host: Host, authority: Authority, cluster: Mapping[str, str] | None) -> EtcdProcess:
    def launch(command: Sequence[str], log: BinaryIO) -> "subprocess.Popen[str]":
        return host.popen(command, ENVIRONMENT, log.fileno(), log.fileno())

    directory = host.directory / "etcd"
    directory.mkdir()
    return EtcdProcess(
        directory,
        authority,
        ETCD_PORT,
        address=host.address,
        launch=launch,
        name=host.name,
        cluster=cluster,
    )


@dataclass
class LedFleet:
    """Members, fronts that stand for leader, and their etcd."""

    network: Network
    made: Members
    etcd: EtcdHost
    members: Mapping[str, Member]
    fronts: dict[str, Front] = field(default_factory=dict)

    def start_front(
        self, name: str, program: tuple[str, ...] = (), client: str = "client"
    ) -> Front:
        """Start a front, on a host that is made unless it is there.

        program: runs in place of pool-service. client: of etcd, whose certificate it shows.
        """
        host = self.network.hosts.get(name) or self.network.add(name)
        self.made.issue_to(host)
        settings = replace(front_settings(host, self.etcd, client), program=program)
        members, credentials = list(self.members.values()), self.made.credentials[name]
        self.fronts[name] = start_front(host, members, credentials, settings)
        return self.fronts[name]

    def leader(self, *among: str) -> str:
        """Wait until one of these fronts leads, as it says itself; return its name."""
        names = among or tuple(self.fronts)
        return until(lambda: next((name for name in names if self.leads(name)), ""))

    def leads(self, name: str) -> bool:
        """Return whether the last word of a front on who leads is that it does."""
        told = leads_told(self.fronts[name])
        return bool(told) and told[-1][1]


def front_settings(host: Host, etcd: EtcdHost, client: str = "client") -> FrontSettings:
    """Return the configuration of a front for which the others are clients."""
    address = f"{host.address}:{FRONT_PORT}"
    others = "".join(
        f'[clients.{name}]\nsan = "{san_of(name)}"\nfleet = true\nscope = "admin"\nlogs = true\n'
        for name in FRONTS
        if name != host.name
    )
    directory = host.directory
    return FrontSettings(
        lines=f'address = "{address}"\nleader = "{etcd.engine}"\nlog_format = "json"\n',
        sections=f"""
{etcd.section(client)}
[tls]
cert = "{directory}/member.pem"
key = "{directory}/member.key"
client_ca = "{directory.parent}/fleet-ca.pem"
{others}""",
        listen=(address,),
    )


def log_of(front: Front) -> list[dict[str, object]]:
    """Return the whole lines of a front in its log."""
    text = front.log.read_text()
    lines = text[: text.rfind("\n") + 1].splitlines()
    # gRPC writes lines of its own.
    return [json.loads(line) for line in lines if line.startswith("{")]


_LEADS = re.compile(r"(this|another|no) front leads")


def leads_told(front: Front) -> list[tuple[str, bool]]:
    """Return when a front has said who leads, and whether it was itself."""
    matches = ((line, _LEADS.match(str(line["event"]))) for line in log_of(front))
    return [(str(line["timestamp"]), match[1] == "this") for line, match in matches if match]


def until(answer: "Callable[[], str]", limit_s: float = LIMIT_S) -> str:
    """Return the first answer that is not empty. Raises TimeoutError."""
    end = time.monotonic() + limit_s
    while not (found := answer()):
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(_POLL_S)
    return found


def until_true(is_so: "Callable[[], bool]", limit_s: float = LIMIT_S) -> None:
    """Wait until something is so. Raises TimeoutError."""
    until(lambda: "yes" if is_so() else "", limit_s)


def etcd_key(etcd: EtcdHost, key: str) -> str | None:
    """Return the value of a key; None also while etcd does not answer."""
    try:
        return etcd.get(key)
    except URLError:
        return None


def pausing(directory: Path) -> tuple[str, ...]:
    """Return a program as pool-service, which stops itself before it places a model.

    Once: while the file `stop` is in the directory, which it deletes.
    """
    module = "tests.fleet.hosts.pausing_front"
    return (sys.executable, "-m", module, str(directory / "stop"))
