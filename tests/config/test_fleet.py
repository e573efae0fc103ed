"""A service as a member of a fleet: its name, where its servers listen, and who is a front."""

import pytest

from pool_service.access.principal import LOCAL, UNLIMITED, Scope
from pool_service.config import Config, restart_needed
from pool_service.config.etcd_section import EtcdKeys
from tests.config.conftest import Read, Refusal

DIGEST = "ab" * 32
FRONT = f"[fleet]\nname = 'one'\n[clients.front]\ntoken_sha256 = '{DIGEST}'\nfleet = true\n"


def advertising(read: Read, address: str, more: str = "") -> Config:
    return read(f"[fleet]\nname = 'one'\nadvertise = '{address}'\n{more}")


def test_without_a_section_it_is_no_member_and_servers_stay_on_loopback(read: Read) -> None:
    config = read("")
    assert (config.fleet.name, config.fleet.advertise) == ("", "")
    assert (config.fleet.only_fleet, config.fleet.hold_grace) == (False, 15.0)
    assert config.runtime_options.host == ""
    assert config.runtime_options.bound_host == "127.0.0.1"


def test_each_key_is_read_from_the_file_and_from_a_variable(read: Read) -> None:
    text = "[fleet]\nname='a-1'\nadvertise='10.0.0.1'\nonly_fleet=true\nhold_grace='1m'"
    variables = {
        "POOL_SERVICE_FLEET_NAME": "a-1",
        "POOL_SERVICE_FLEET_ADVERTISE": "10.0.0.1",
        "POOL_SERVICE_FLEET_ONLY_FLEET": "true",
        "POOL_SERVICE_FLEET_HOLD_GRACE": "1m",
    }
    assert read(text).fleet == read("", variables).fleet
    fleet = read(text).fleet
    assert (fleet.name, fleet.advertise, fleet.only_fleet) == ("a-1", "10.0.0.1", True)
    assert fleet.hold_grace == 60.0


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", "é", "a" * 65])
def test_a_name_of_a_host_has_the_form_of_a_sections_name(refusal: Refusal, name: str) -> None:
    told = refusal(f"[fleet]\nname = '{name}'")
    assert told.startswith("fleet.name: the name may have only ASCII letters")


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("10.0.0.11", "10.0.0.11"),
        ("192.168.1.2", "192.168.1.2"),
        # Of Tailscale, and others behind the addresses of a provider.
        ("100.64.3.4", "100.64.3.4"),
        ("127.0.0.2", "127.0.0.2"),
        ("FD00:0::0011", "fd00::11"),
        ("::1", "::1"),
    ],
)
def test_every_runtime_gets_a_private_address_in_its_usual_spelling(
    read: Read, written: str, address: str
) -> None:
    config = advertising(read, written, "[runtimes.x]\ncommand = ['x']")
    assert {one.host for one in config.all_runtime_options.values()} == {address}
    assert config.runtime_options.bound_host == address
    assert config.fleet.leaves_loopback == (address not in ("127.0.0.2", "::1"))


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("0.0.0.0", "stands for all addresses"),
        ("::", "stands for all addresses"),
        ("224.0.0.1", "no address that one machine has"),
        ("ff02::1", "no address that one machine has"),
        ("255.255.255.255", "no address that one machine has"),
        ("169.254.3.4", "only valid together with a network interface"),
        ("fe80::1", "only valid together with a network interface"),
        ("fe80::1%eth0", "only valid together with a network interface"),
        ("8.8.8.8", "reached from the whole internet"),
        ("2001:4860::8888", "reached from the whole internet"),
        ("::ffff:10.0.0.1", "write 10.0.0.1"),
        ("studio.local", "is no IP address"),
        ("localhost", "is no IP address"),
        ("10.0.0.1:80", "is no IP address"),
        ("[fd00::1]", "is no IP address"),
        ("10.0.0.0/8", "is no IP address"),
    ],
)
def test_an_address_that_other_hosts_cannot_or_must_not_reach_is_refused(
    refusal: Refusal, address: str, why: str
) -> None:
    told = refusal(f"[fleet]\nname = 'one'\nadvertise = '{address}'")
    assert told.startswith("fleet.advertise: ")
    assert why in told


@pytest.mark.parametrize(
    "key", ["advertise = '10.0.0.1'", "only_fleet = false", "hold_grace = 1", "only_fleet = true"]
)
def test_a_member_needs_a_name(refusal: Refusal, key: str) -> None:
    told = refusal(f"[fleet]\n{key}")
    assert told == "fleet.name: must be set as well: the name of this host in its fleet"


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("[runtime]", "runtime.server_keys"),
        ("[runtimes.other]\ncommand = ['x']", "runtimes.other.server_keys"),
    ],
)
def test_servers_that_other_machines_reach_must_have_keys(
    refusal: Refusal, read: Read, section: str, key: str
) -> None:
    keyless = f"{section}\nserver_keys = false"
    told = refusal(f"[fleet]\nname = 'one'\nadvertise = '10.0.0.1'\n{keyless}")
    assert told.startswith(f"{key}: must not be false while fleet.advertise lets other machines")
    advertising(read, "127.0.0.2", keyless)
    read(f"[fleet]\nname = 'one'\n{keyless}")


def test_name_and_address_need_a_restart_and_the_rest_does_not(read: Read) -> None:
    before = read("[fleet]\nname = 'one'")
    assert restart_needed(before, read("[fleet]\nname = 'two'")) == ("fleet.name",)
    moved = advertising(read, "10.0.0.1")
    assert restart_needed(before, moved) == ("fleet.advertise",)
    others = read("[fleet]\nname = 'one'\nonly_fleet = true\nhold_grace = 1")
    assert restart_needed(before, others) == ()


def test_a_reload_leaves_name_and_address_as_they_were_at_the_start(read: Read) -> None:
    started = advertising(read, "10.0.0.1")
    read_again = read("[fleet]\nname='two'\nadvertise='10.0.0.2'\nonly_fleet=true\nhold_grace=1")
    bound = read_again.bound_as(started)
    assert (bound.fleet.name, bound.fleet.advertise) == ("one", "10.0.0.1")
    assert (bound.fleet.only_fleet, bound.fleet.hold_grace) == (True, 1.0)
    assert bound.runtime_options.host == "10.0.0.1"


def test_a_server_elsewhere_is_outdated_and_one_on_loopback_as_before_is_not(read: Read) -> None:
    def hash_of(config: Config) -> str:
        return config.catalogue.settings_for("m").config_hash

    plain = hash_of(read(""))
    assert hash_of(read("[fleet]\nname = 'one'")) == plain
    assert hash_of(advertising(read, "127.0.0.1")) == plain
    assert hash_of(advertising(read, "10.0.0.1")) != plain
    assert hash_of(advertising(read, "10.0.0.1")) != hash_of(advertising(read, "10.0.0.2"))


def test_a_front_has_no_limits_of_its_own(read: Read) -> None:
    principal = read(FRONT).clients["front"].client("front").principal
    assert principal.fleet
    assert principal.limits == UNLIMITED
    assert principal.scope is Scope.READ
    assert principal.account is None
    other = read(FRONT.replace("fleet = true", "")).clients["front"].client("front").principal
    assert not other.fleet


def test_the_local_user_may_do_what_a_front_may() -> None:
    assert LOCAL.fleet


@pytest.mark.parametrize(
    "key",
    [
        *("max_holds = 32", "max_waiting = 0", "max_streams = 1"),
        *("starts_per_minute = 9", "memory_share = '100%'"),
    ],
)
def test_a_limit_of_a_front_is_a_contradiction(refusal: Refusal, key: str) -> None:
    told = refusal(FRONT + key)
    name = key.partition(" ")[0]
    assert told == (
        f"clients.front.{name}: does not apply to a front, whose calls are those of others; "
        "remove it"
    )


def test_there_is_no_front_without_a_fleet(refusal: Refusal) -> None:
    told = refusal(FRONT.replace("[fleet]\nname = 'one'\n", ""))
    assert told == "clients.front.fleet: has no effect without fleet.name; set that"


REGISTERED = (
    "[service]\nlisten = ['127.0.0.1:50051', '10.0.0.1:50051']\n[tls]\ncert = '/c'\nkey = '/k'\n"
    "[fleet]\nname = 'one'\nregistry = 'etcd:e1:2379,e2:2379/fleets/home'\n"
    "registered_address = '10.0.0.1:50051'\n[etcd]\nca = '/ca'\n"
)


def test_a_member_registers_itself_where_the_configuration_says(read: Read) -> None:
    fleet = read(REGISTERED).fleet
    assert fleet.registry_keys == EtcdKeys(("e1:2379", "e2:2379"), "fleets/home/")
    assert fleet.registered_address == "10.0.0.1:50051"
    assert read("[fleet]\nname = 'one'").fleet.registry_keys is None


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "registered_address = '10.0.0.1:50051'",
            "",
            "fleet.registered_address: must be set, since fleet.registry is etcd:",
        ),
        (
            "'127.0.0.1:50051', '10.0.0.1:50051'",
            "'127.0.0.1:50051'",
            "fleet.registered_address: 10.0.0.1:50051 is for other machines, and service.listen",
        ),
        (
            "registry = 'etcd:e1:2379,e2:2379/fleets/home'",
            "",
            "fleet.registered_address: has no effect without registry",
        ),
        (
            "[etcd]\nca = '/ca'",
            "",
            "etcd.ca: must be set: etcd is on other machines (e1:2379, e2:2379)",
        ),
        ("ca = '/ca'", "ca = '/ca'\nuser = 'x'", "etcd.user: has no effect without password_file"),
        ("10.0.0.1:50051'\n[etcd]", "0.0.0.0:1'\n[etcd]", "fleet.registered_address: '0.0.0.0:1'"),
        ("'etcd:e1:2379,", "'consul:e1:2379,", 'fleet.registry: must be "none" or "etcd:'),
    ],
)
def test_a_registration_that_cannot_be_is_refused(
    refusal: Refusal, old: str, new: str, told: str
) -> None:
    assert old in REGISTERED
    assert refusal(REGISTERED.replace(old, new)).startswith(told)


def test_keys_of_etcd_without_a_registration_are_refused(refusal: Refusal) -> None:
    assert refusal("[etcd]\nca = '/ca'") == (
        "etcd.ca: has no effect, since fleet.registry is not etcd; remove it"
    )


def test_a_registration_needs_a_restart(read: Read) -> None:
    changed = restart_needed(read("[fleet]\nname = 'one'"), read(REGISTERED))
    assert {"fleet.registry", "fleet.registered_address", "etcd.ca"} <= set(changed)
