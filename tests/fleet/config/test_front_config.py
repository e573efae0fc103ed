"""What a valid configuration of a front means, and where its values come from."""

from pathlib import Path

import pytest

from pool_service.access.authentication import Rules
from pool_service.client_registry import ClientRegistry
from pool_service.config import load
from pool_service.config.etcd_section import EtcdKeys
from pool_service.config.loading import variables
from pool_service.config.service_source import SERVICE
from pool_service.fleet.config import (
    ConfigError,
    Credentials,
    Member,
    front_source,
    restart_needed,
)
from pool_service.fleet.config.engines import (
    Discovery,
    DnsName,
    Leader,
    LeaseName,
    RayCluster,
    ServiceName,
)
from pool_service.fleet.config.loading import FRONT
from tests.fleet.config.conftest import FILES, ONE, TLS, Read


def test_one_member_is_all_that_has_to_be_written(read: Read) -> None:
    config = read(ONE)
    assert config.static_members == {"one": "127.0.0.1:50051"}
    assert config.front.listen == ("127.0.0.1:50050",)
    assert (config.front.lost_after, config.front.beat, config.front.history) == (3.0, 0.5, 4096)
    assert (config.front.log_format, config.front.log_level) == ("text", "info")
    assert (config.leader, config.discovery, config.member_credentials) == (None, None, None)


def test_a_member_is_a_line_or_a_table(read: Read) -> None:
    config = read(
        """
        [members]
        studio = "studio.example:50051"
        "mini.local" = "[fe80::1]:50051"
        [members.laptop]
        address = "127.0.0.1:50051"
        lost_after = "10m"
        san = "laptop.example"
        """
        + FILES
    )
    assert [config.member(*one) for one in config.static_members.items()] == [
        Member("studio", "studio.example:50051", 3.0, "studio.example", with_tls=True),
        Member("mini.local", "[fe80::1]:50051", 3.0, "fe80::1", with_tls=True),
        Member("laptop", "127.0.0.1:50051", 600.0, "laptop.example", with_tls=False),
    ]
    assert config.member_credentials == Credentials(Path("/f/ca"), Path("/f/cert"), Path("/f/key"))


def test_a_discovered_member_is_as_the_front_says(read: Read) -> None:
    config = read(f'[front]\nlost_after = 9\ndiscovery = "dns:x"\n{FILES}')
    assert config.static_members == {}
    assert config.member("new", "10.0.0.7:1") == Member(
        "new", "10.0.0.7:1", 9.0, "10.0.0.7", with_tls=True
    )


def test_what_was_discovered_may_have_one_name_in_all_certificates(read: Read) -> None:
    engines = 'leader = "kubernetes"\naddress = "10.1.0.1:1"\ndiscovery = "kubernetes:a/b"'
    names = 'san = "members.pool"\nfront_san = "fronts.pool"\n'
    config = read(f'[front]\nlisten = ["unix:/s", "0.0.0.0:1"]\n{engines}\n{FILES}{names}{TLS}')
    assert config.member("mac-1", "10.1.0.7:1").san == "members.pool"
    assert config.member("", "10.1.0.2:1").san == "fronts.pool"


def test_outside_a_cluster_the_api_server_is_named(read: Read) -> None:
    text = '[front]\ndiscovery = "kubernetes:a/b"\n[kubernetes]\nserver = "https://h:6443/"\n'
    section = read(f'{text}token_file = "/t"\nca = "/c"\n{FILES}').kubernetes
    assert (section.server, section.ca) == ("https://h:6443", Path("/c"))


@pytest.mark.parametrize(
    ("text", "leader"),
    [
        ("none", None),
        ("etcd:127.0.0.1:2379", EtcdKeys(("127.0.0.1:2379",), "pool-service/")),
        ("etcd:127.0.0.1:1, [::1]:2/a/b", EtcdKeys(("127.0.0.1:1", "[::1]:2"), "a/b/")),
        ("etcd:127.0.0.1:1/a/", EtcdKeys(("127.0.0.1:1",), "a/")),
        ("kubernetes", LeaseName("", "pool-service")),
        ("kubernetes:fleet/home.main", LeaseName("fleet", "home.main")),
    ],
)
def test_each_engine_of_the_leader(read: Read, text: str, leader: Leader | None) -> None:
    config = read(f'[front]\nleader = "{text}"\naddress = "127.0.0.1:50050"\n{ONE}')
    assert config.leader == leader
    assert config.etcd_endpoints == (leader.endpoints if isinstance(leader, EtcdKeys) else ())


@pytest.mark.parametrize(
    ("text", "discovery"),
    [
        ("dns:_pool._tcp.example", DnsName("_pool._tcp.example", None)),
        ("dns:members.example.", DnsName("members.example", None)),
        ("dns:members.example.:50051", DnsName("members.example", 50051)),
        ("etcd:127.0.0.1:2379/x", EtcdKeys(("127.0.0.1:2379",), "x/")),
        ("ray:10.0.0.1:6379", RayCluster("10.0.0.1:6379")),
        ("kubernetes:fleet/members", ServiceName("fleet", "members", None)),
        ("kubernetes:fleet/members:grpc", ServiceName("fleet", "members", "grpc")),
        ("kubernetes:fleet/members:50051", ServiceName("fleet", "members", 50051)),
    ],
)
def test_each_discovery(read: Read, text: str, discovery: Discovery) -> None:
    assert read(f'[front]\ndiscovery = "{text}"\n{FILES}').discovery == discovery


def test_a_flag_goes_before_a_variable_and_that_before_the_file(read: Read) -> None:
    text = f'[front]\nlisten = ["127.0.0.1:1"]\nhistory = 101\nlog_level = "error"\n{ONE}'
    environ = {
        "POOL_SERVICE_FLEET_LISTEN": "127.0.0.1:2",
        "POOL_SERVICE_FLEET_HISTORY": "102",
        "POOL_SERVICE_FLEET_BEAT": "",
    }
    front = read(text, environ, {"listen": ("127.0.0.1:3",)}).front
    assert (front.listen, front.history) == (("127.0.0.1:3",), 102)
    assert (front.log_level, front.beat) == ("error", 0.5)


def test_each_section_with_a_fixed_name_has_its_variables(read: Read) -> None:
    config = read(
        ONE,
        {
            "POOL_SERVICE_FLEET_LOST_AFTER": "1m",
            "POOL_SERVICE_FLEET_MEMBER_TLS_CA": "/f/ca",
            "POOL_SERVICE_FLEET_MEMBER_TLS_CERT": "/f/cert",
            "POOL_SERVICE_FLEET_MEMBER_TLS_KEY": "/f/key",
            "POOL_SERVICE_FLEET_HTTP_LISTEN": "127.0.0.1:9465",
            "POOL_SERVICE_FLEET_AUTH_LOCAL": "token",
            "POOL_SERVICE_FLEET_TRACE_ENDPOINT": "http://127.0.0.1:4318",
        },
    )
    assert config.front.lost_after == 60.0
    assert config.member_credentials is not None
    assert (config.http.listen, config.auth.local) == ("127.0.0.1:9465", "token")
    assert config.trace.endpoint == "http://127.0.0.1:4318"


def test_a_front_and_a_service_do_not_read_each_others_variables(read: Read) -> None:
    service = dict.fromkeys(variables(SERVICE), "nonsense")
    front = dict.fromkeys(variables(FRONT), "nonsense")
    assert service.keys().isdisjoint(front)
    of_member = {"POOL_SERVICE_FLEET_NAME": "studio", "POOL_SERVICE_FLEET_HOLD_GRACE": "15s"}
    assert read(ONE, service | of_member) == read(ONE)
    assert load(None, {}, front) == load(None, {}, {})


def test_variables_of_kubernetes_are_left_alone(read: Read) -> None:
    environ = {
        "POOL_SERVICE_FLEET_SERVICE_HOST": "10.0.0.1",
        "POOL_SERVICE_FLEET_SERVICE_PORT": "50050",
        "POOL_SERVICE_FLEET_PORT": "tcp://10.0.0.1:50050",
        "POOL_SERVICE_FLEET_PORT_50050_TCP_ADDR": "10.0.0.1",
    }
    assert read(ONE, environ) == read(ONE)


def test_the_file_can_be_named_by_a_variable_of_its_own(tmp_path: Path) -> None:
    file, other = tmp_path / "fleet.toml", tmp_path / "pool.toml"
    file.write_text(ONE)
    other.write_text("[service]")
    environ = {"POOL_SERVICE_FLEET_CONFIG": str(file), "POOL_SERVICE_CONFIG": str(other)}
    assert front_source(None, {}, environ).load().static_members == {"one": "127.0.0.1:50051"}
    missing = {"POOL_SERVICE_FLEET_CONFIG": str(tmp_path / "none.toml")}
    with pytest.raises(ConfigError, match=r"correct POOL_SERVICE_FLEET_CONFIG$"):
        front_source(None, {}, missing).load()


def test_a_file_that_others_could_change_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(ONE)
    file.chmod(0o666)
    with pytest.raises(ConfigError, match=r"with it where models run and who may call: .*chmod"):
        front_source(file, {}, {}).load()


def test_an_empty_file_is_refused_while_the_front_runs(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text("")
    with pytest.raises(ConfigError, match="is empty"):
        front_source(file, {}, {}).load_again()


def test_clients_are_those_of_a_service(read: Read) -> None:
    text = f'[clients.engine]\ntoken_sha256 = "{"a" * 64}"\nscope = "use"\n{ONE}'
    rules = Rules()
    ClientRegistry(rules, read(f'[auth]\nlocal = "anyone"\n{text}'))
    assert rules.local == "anyone"
    assert "engine" in rules.clients


def test_members_clients_and_times_need_no_restart(read: Read) -> None:
    applied = f'[front]\nlost_after = 9\nbeat = 1\n{ONE}two = "127.0.0.1:2"\n'
    applied += f'[auth]\nlocal = "token"\n[clients.x]\ntoken_sha256 = "{"a" * 64}"\n'
    assert restart_needed(read(ONE), read(applied)) == ()
    other = f'[front]\nlisten = ["127.0.0.1:1"]\nhistory = 99\n[http]\nlisten = "unix:/h"\n{ONE}'
    assert restart_needed(read(ONE), read(other)) == (
        "front.listen",
        "front.history",
        "http.listen",
    )
