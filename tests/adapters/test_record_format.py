"""What a record says, by values."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pool_service.adapters.records.plan_format import from_plan
from pool_service.adapters.records.record_format import Entry, Record, decode, encode
from pool_service.adapters.records.record_members import BadRecord
from pool_service.core.errors import CrashLoop, Evicted, PoolError
from pool_service.core.server import LastRun, Server
from pool_service.core.types import FOREVER
from tests.adapters.remembered import BOOT, PLAN, pasts, ready, servers


def told(error: PoolError | None) -> object:
    """What makes two errors the same to a caller; as values they are equal only to themselves."""
    return error and (type(error), vars(error))


def through(entry: Entry) -> Entry:
    record = decode(encode(Record(BOOT, entry)))
    assert record.boot_id == BOOT
    return record.entry


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(servers)
def test_whatever_is_known_of_a_server_comes_back(server: Server) -> None:
    back = through(server)
    assert isinstance(back, Server)
    assert replace(back, failure=None) == replace(server, failure=None)
    assert told(back.failure) == told(server.failure)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(pasts)
def test_whatever_is_known_of_a_past_comes_back(past: LastRun) -> None:
    assert through(past) == past


def test_the_environment_of_a_plan_is_not_written() -> None:
    secret = replace(PLAN, environment=(("HF_TOKEN", "secret"),))
    server = replace(ready(), plan=secret)
    assert b"secret" not in encode(Record(BOOT, server))
    assert through(server) == ready()


def test_enums_are_written_by_name_and_for_ever_in_words() -> None:
    said = body(ready())
    assert (said["phase"], said["keep_alive"]) == ("READY", "forever")


def test_an_error_that_no_server_fails_with_comes_back_as_one_in_general() -> None:
    back = through(replace(ready(), failure=Evicted("gone", model="m")))
    assert isinstance(back, Server)
    assert told(back.failure) == (PoolError, {"message": "gone", "model": "m"})


def test_a_crash_loop_comes_back_with_its_time_and_last_lines() -> None:
    error = CrashLoop("died", model="m", retry_after=FOREVER, last_lines=("a", "b"))
    back = through(replace(ready(), failure=error))
    assert isinstance(back, Server)
    assert told(back.failure) == told(error)


@given(st.binary(max_size=200))
def test_garbage_is_told_as_that_whatever_it_is(content: bytes) -> None:
    with pytest.raises(BadRecord):
        decode(content)


@pytest.mark.parametrize("content", [b"[]", b"1", b'"text"'])
def test_json_that_is_no_record_is_told_as_that(content: bytes) -> None:
    with pytest.raises(BadRecord, match="structure of a record"):
        decode(content)


@given(st.integers(0, 2**16))
def test_a_truncated_record_is_told_as_that(length: int) -> None:
    content = encode(Record(BOOT, ready()))
    with pytest.raises(BadRecord):
        decode(content[: length % len(content)])


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(data=st.data(), value=_json)
def test_a_value_of_another_kind_is_refused_or_of_no_consequence(
    data: st.DataObject, value: object
) -> None:
    top = json.loads(encode(Record(BOOT, ready())))
    at: dict[str, Any] = data.draw(
        st.sampled_from([top, top["server"], top["server"]["plan"], top["server"]["identity"]])
    )
    at[data.draw(st.sampled_from(sorted(at)))] = value
    try:
        decode(json.dumps(top).encode())
    except BadRecord:
        return


def test_deep_nesting_is_garbage_as_well() -> None:
    with pytest.raises(BadRecord, match="garbage"):
        decode(b"[" * 1_000_000)


def test_a_record_of_a_later_version_is_refused_by_its_number() -> None:
    content = encode(Record(BOOT, ready())).replace(b'"version":1', b'"version":2')
    with pytest.raises(BadRecord, match="version 2"):
        decode(content)


def test_what_a_later_service_of_this_version_says_besides_is_passed_over() -> None:
    top = json.loads(encode(Record(BOOT, ready())))
    for known in (top, top["server"], top["server"]["settings"], top["server"]["plan"]):
        known["of_a_later_one"] = {"x": [1]}
    assert decode(json.dumps(top).encode()).entry == through(ready())


@pytest.mark.parametrize("nonce", ["", "..", "../..", "a/b", "/etc", "a\n", "a" * 65])
def test_a_nonce_that_names_another_directory_is_refused(nonce: str) -> None:
    server = replace(ready(), plan=replace(PLAN, nonce=nonce))
    with pytest.raises(BadRecord, match="nonce"):
        through(server)


@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    server = replace(ready(), plan=replace(PLAN, port=port))
    with pytest.raises(BadRecord, match="port"):
        through(server)


@pytest.mark.parametrize("host", ["studio.local", "10.0.0.1:80", "[fd00::1]"])
def test_a_host_that_is_no_address_is_refused(host: str) -> None:
    server = replace(ready(), plan=replace(PLAN, host=host))
    with pytest.raises(BadRecord, match="host"):
        through(server)


def test_a_server_of_no_fleet_is_recorded_as_before_there_were_any() -> None:
    assert "host" not in (from_plan(PLAN) or {})


@pytest.mark.parametrize("pid", [1, 0, -1])
def test_a_pid_that_stands_for_many_processes_is_refused(pid: int) -> None:
    identity = ready().identity
    assert identity
    with pytest.raises(BadRecord, match="pid"):
        through(replace(ready(), identity=replace(identity, pid=pid)))


@pytest.mark.parametrize("missing", ["settings", "phase", "plan", "failure", "crashes"])
def test_what_may_be_none_may_be_missing_and_nothing_else(missing: str) -> None:
    top = json.loads(encode(Record(BOOT, ready())))
    del top["server"][missing]
    content = json.dumps(top).encode()
    if missing in ("plan", "failure"):
        assert isinstance(decode(content).entry, Server)
    else:
        with pytest.raises(BadRecord, match=missing):
            decode(content)


def body(server: Server) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(encode(Record(BOOT, server)))["server"]
    return said


@pytest.mark.parametrize("member", ["api_key", "embedding_model_name"])
def test_a_server_of_an_earlier_version_has_no_key_and_no_name_for_embeddings(member: str) -> None:
    top = json.loads(encode(Record(BOOT, ready())))
    del top["server"]["plan"][member]
    found = decode(json.dumps(top).encode()).entry
    assert isinstance(found, Server)
    assert found.plan is not None
    assert getattr(found.plan, member) == ""


@pytest.mark.parametrize(("kind", "drains"), [("vllm-mlx", True), ("plain", False)])
def test_whether_a_server_of_an_earlier_version_drains_is_told_by_its_kind(
    kind: str, drains: bool
) -> None:
    top = json.loads(encode(Record(BOOT, ready())))
    top["server"]["plan"]["kind"] = kind
    del top["server"]["plan"]["drains"]
    found = decode(json.dumps(top).encode()).entry
    assert isinstance(found, Server)
    assert found.plan is not None
    assert found.plan.drains is drains
