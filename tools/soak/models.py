"""The models of the soak, how each behaves, and the configuration that says so."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MARK_VARIABLE: Final = "POOL_SOAK"
"""In the environment of every server: tells those of this soak from all others'."""

KEEP_ALIVE: Final = 10.0
GRACE_PERIOD: Final = 1.0
DRAIN_TIMEOUT: Final = 15.0
STOP_TIMEOUT: Final = 3.0
ORPHAN_GRACE: Final = 12.0
STUBBORN_DRAIN: Final = 2.0

CONFIG: Final = """
[service]
# The soak tells its processes apart by their arguments, which those from a standby do not show.
standby = 0
keep_servers = true
orphan_grace = {grace}
failure_ttl = 20
backoff_max = 3
crash_window = 30
stable_run = 5
probe_interval = 1
probe_limit = 3
[runtime]
kind = "vllm-mlx"
command = [{python}, "-S", "-E", {runtime}, "serve", "{{runtime_model}}", "--port", "{{port}}"]
environment = {{ {variable} = {mark} }}
[logs]
keep = 100
[defaults]
keep_alive = {keep_alive}
grace_period = {grace_period}
start_timeout = 25
probe_timeout = 1
drain_timeout = {drain}
stop_timeout = {stop}
"""


@dataclass(frozen=True, slots=True)
class Model:
    """How one model behaves.

    weight: how often it is asked for; mortal: its servers end by themselves; reasons: what
    Ensure may answer because of how it behaves; drain_timeout: seconds.
    """

    name: str
    runtime_model: str
    weight: float = 1.0
    mortal: bool = False
    reasons: frozenset[str] = frozenset()
    drain_timeout: float = DRAIN_TIMEOUT


def models(tiny: Path, real_share: float) -> list[Model]:
    """Fake ones with various manners and, for a share of the calls, the real runtime's."""
    quick = [Model(f"quick/{number}", "fake/quick?delay=0.02", 2.0) for number in (1, 2, 3)]
    fakes = [
        *quick,
        Model("slow/1", "fake/slow?load=1.5&delay=0.02"),
        Model("slow/2", "fake/slow?load=4&delay=0.02"),
        Model("family/group", "fake/family?child=group&delay=0.02"),
        Model("family/setsid", "fake/family?child=setsid&child_ignore=term&delay=0.02", 0.7),
        Model("mortal/running", "fake/mortal?exit_after=5&delay=0.02", mortal=True),
        Model(
            "mortal/loading",
            "fake/mortal?load=0.3&die=7&say=told+to+die",
            0.5,
            mortal=True,
            reasons=frozenset({"START_FAILED"}),
        ),
        Model(
            "refused",
            "fake/refused?die=1&say=ValueError:+Model+type+perceptron+not+supported.",
            0.5,
            mortal=True,
            reasons=frozenset({"MODEL_REJECTED"}),
        ),
        Model("stubborn/1", "fake/stubborn?ignore=term", 0.7, drain_timeout=STUBBORN_DRAIN),
        Model("stubborn/2", "fake/stubborn?ignore=term,int", 0.7, drain_timeout=STUBBORN_DRAIN),
    ]
    if real_share <= 0:
        return fakes
    each = real_share / (1 - real_share) * sum(model.weight for model in fakes) / 2
    return [*fakes, *(Model(f"real/{number}", str(tiny), each) for number in (1, 2))]


def configuration(known: list[Model], mark: str) -> str:
    """The service's TOML."""
    text = CONFIG.format(
        python=json.dumps(sys.executable),
        runtime=json.dumps(str(Path(__file__).with_name("runtime.py"))),
        variable=MARK_VARIABLE,
        mark=json.dumps(mark),
        keep_alive=KEEP_ALIVE,
        grace_period=GRACE_PERIOD,
        drain=DRAIN_TIMEOUT,
        stop=STOP_TIMEOUT,
        grace=ORPHAN_GRACE,
    )
    for model in known:
        text += f"[models.{json.dumps(model.name)}]\n"
        text += f"runtime_model = {json.dumps(model.runtime_model)}\n"
        text += f"drain_timeout = {model.drain_timeout}\n"
    return text
