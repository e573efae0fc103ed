"""Servers of any kind, as a service may have remembered them."""

from dataclasses import fields, replace
from typing import Any

from hypothesis import strategies as st

from pool_service.adapters.records.record_members import MAX_INTEGER, MAX_TIME_S
from pool_service.core.activity import UseSignals
from pool_service.core.errors import (
    CrashLoop,
    ModelRejected,
    PoolError,
    RuntimeUnavailable,
    StartFailed,
    StartTimeout,
)
from pool_service.core.server import Exit, LastRun, Phase, Role, Server
from pool_service.core.types import FOREVER, Identity, LaunchPlan, Sandbox, Settings

BOOT = "this boot"
SETTINGS = Settings(runtime_model="org/m")
PLAN = LaunchPlan(("run", "--port", "0"), (), None, "/health", "served", "0123456789abcdef")


def ready(model: str = "m", generation: int = 1, detail: str = "") -> Server:
    return Server(
        model=model,
        settings=SETTINGS,
        phase=Phase.READY,
        generation=generation,
        created_at=1.0,
        last_used_at=2.0,
        keep_alive=FOREVER,
        detail=detail,
        plan=PLAN,
        identity=Identity(4321, 99, BOOT),
        log_path="/log",
        endpoint="http://127.0.0.1:1",
        spawned_at=1.5,
        ready_at=2.0,
    )


_times = st.floats(0, MAX_TIME_S)
_counts = st.integers(0, MAX_INTEGER)
_texts = st.text(max_size=20)
_paths = st.sampled_from(["", "/", "/v1/health?deep=1"])
_endpoints = st.sampled_from(["", "http://127.0.0.1:1", "http://[::1]:65535"])
_lines = st.lists(_texts, max_size=3).map(tuple)


def _all_of(kind: type[Any], **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Every field inferred from its type, unless it is given: new ones take part at once."""
    return st.builds(kind, **({field.name: ... for field in fields(kind)} | given))


st.register_type_strategy(float, _times)
st.register_type_strategy(int, _counts)
# What the configuration says anew is not remembered.
_forgotten = {"runtime", "arguments", "environment", "trust_remote_code", "download", "groups"}
_forgotten |= {"pinned", "preload", "expected_memory", "memory_limit", "arguments_section"}
_forgotten |= {"prompt_cache", "home", "warm_prompts"}
_defaults = {
    field.name: st.just(field.default) for field in fields(Settings) if field.name in _forgotten
}
st.register_type_strategy(Settings, _all_of(Settings, **_defaults))
st.register_type_strategy(Identity, _all_of(Identity, pid=st.integers(2, 2**22)))
st.register_type_strategy(UseSignals, _all_of(UseSignals, path=_paths))
st.register_type_strategy(
    LaunchPlan,
    _all_of(
        LaunchPlan,
        port=st.none() | st.integers(1, 65_535),
        environment=st.just(()),
        files=st.just(()),
        # What it permits is not written.
        sandbox=st.sampled_from([None, Sandbox()]),
        nonce=st.from_regex("[0-9a-f]{32}", fullmatch=True),
        health_path=_paths,
        ready_path=_paths,
        mapped_bytes=st.integers(0, 2**40),
        host=st.sampled_from(["", "10.0.0.11", "fd00::11"]),
        embedding_model_name=st.sampled_from(["", "org/embeds", "/models/embeds"]),
        api_key=st.sampled_from(["", f"psk_{'Ab-9_' * 8}xyz"]),
    ),
)
st.register_type_strategy(
    PoolError,
    st.one_of(
        st.builds(PoolError, _texts, model=_texts),
        st.builds(RuntimeUnavailable, _texts, model=_texts),
        st.builds(ModelRejected, _texts, model=_texts, last_lines=_lines),
        st.builds(StartTimeout, _texts, model=_texts, last_lines=_lines),
        st.builds(StartFailed, _texts, model=_texts, last_lines=_lines),
        st.builds(CrashLoop, _texts, model=_texts, last_lines=_lines, retry_after=_times),
    ),
)
st.register_type_strategy(Exit, _all_of(Exit))

_momentary = (
    *("footprint", "holds", "outdated", "position", "progress", "sampled_ready"),
    *("reused_tokens", "expected_ready_at", "from_standby"),
)


def _in_its_role(server: Server) -> Server:
    """Return the server beside another as what its time of readiness makes it."""
    if server.is_current or server.ready_at is not None:
        return server
    return replace(server, role=Role.SUCCESSOR)


servers = _all_of(
    Server,
    model=st.text(min_size=1, max_size=20),
    role=st.sampled_from([Role.CURRENT, Role.SUPERSEDED]),
    endpoint=_endpoints,
    **{field.name: st.just(field.default) for field in fields(Server) if field.name in _momentary},
).map(_in_its_role)
pasts = _all_of(LastRun)
