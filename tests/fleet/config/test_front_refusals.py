"""What a front's configuration refuses, each with its place and what to do."""

import pytest

from tests.fleet.config.conftest import FILES, ONE, Refusal

LENGTH = 'seconds, or text with units such as "90s", "5m" or "1h30m"'
MEMBER = 'the address of a member, such as "studio.example:50051"'
LEADER = '"none", "etcd:HOST:PORT,HOST:PORT[/PREFIX]" or "kubernetes[:NAMESPACE/NAME]"'
DISCOVERY = (
    '"static", "dns:NAME[:PORT]", "etcd:HOST:PORT,HOST:PORT[/PREFIX]", '
    '"kubernetes:NAMESPACE/SERVICE[:PORT]" or "ray:HOST:PORT"'
)
SERVER = 'the URL of an API server, such as "https://10.0.0.1:6443"'
CALLED = "is not an address that can be called; write host:port"


def test_everything_that_is_wrong_is_reported_at_once(refusal: Refusal) -> None:
    told = refusal(
        """
        [front]
        beats = 1
        leader = "raft"
        [members]
        one = "studio"
        """,
        {"POOL_SERVICE_FLEET_HISTORY": "many", "POOL_SERVICE_FLEET_DISCOVERI": "static"},
        {"log_level": "loud"},
    )
    assert sorted(told.split("; ")) == sorted(
        [
            '--log-level: must be "debug", "info", "warning" or "error", not "loud"',
            (
                "POOL_SERVICE_FLEET_DISCOVERI: there is no such variable, did you mean "
                "POOL_SERVICE_FLEET_DISCOVERY?"
            ),
            'POOL_SERVICE_FLEET_HISTORY: must be a whole number from 64 to 1000000, not "many"',
            "front.beats: there is no such key, did you mean front.beat?",
            f'front.leader: must be {LEADER}, not "raft"',
            *f"members.one.address: 'studio' {CALLED}".split("; "),
        ]
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[frnt]", "frnt: there is no such key, did you mean front?"),
        ("[service]", "service: there is no such key"),
        (
            "[front]\nlissten = []",
            "front.lissten: there is no such key, did you mean front.listen?",
        ),
        ("[front]\ncert = ''", "front.cert: there is no such key, did you mean member_tls.cert?"),
        (
            "[trace]\nrate = 1",
            "trace.rate: there is no such key; there is: endpoint",
        ),
        (
            "[members.a]\naddress = 'h:1'\nadress = 'h:1'",
            "members.a.adress: there is no such key, did you mean members.a.address?",
        ),
        (
            "[members.a]\naddress = 'h:1'\nzone = 3",
            "members.a.zone: there is no such key; there is: address, lost_after, san",
        ),
        ("[members.a]", f"members.a.address: must be set, to {MEMBER}"),
        ("[members]\na = 3", f"members.a: must be {MEMBER}, or a table with it"),
        (
            "[[members]]\naddress = 'h:1'",
            "members: must be a table, [members.NAME]",
        ),
        (
            '[members]\n"a b" = "h:1"',
            'members."a b": the name may have only ASCII letters, digits and . _ -, at most 64',
        ),
    ],
)
def test_a_key_that_is_none_is_named_with_what_was_meant(
    refusal: Refusal, text: str, told: str
) -> None:
    assert refusal(text) == told


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('[members]\nmac.local = "mac.local:50051"', "mac.local"),
        ('[members]\nmac.home.example = "h:1"', "mac.home.example"),
        ('[members.mac.local]\naddress = "h:1"', "mac.local"),
        ('[members.mac.lan.example]\naddress = "h:1"', "mac.lan.example"),
    ],
)
def test_a_name_with_dots_is_shown_in_quotes(refusal: Refusal, text: str, name: str) -> None:
    told = f'there is no such key; a name with dots is written in quotes, [members."{name}"]'
    assert told in refusal(text)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("front.beat", "0", f"must be {LENGTH} (more than 0, at most ten years), not 0"),
        ("front.lost_after", '"-1s"', f"must be {LENGTH} (more than 0, at most ten years)"),
        ("front.history", "1", "must be a whole number from 64 to 1000000, not 1"),
        ("front.listen", "[]", 'must be a list of addresses, such as ["127.0.0.1:50051"], not []'),
        ("front.log_format", '"xml"', 'must be "text" or "json", not "xml"'),
        ("front.address", "3", 'must be an address of this front, such as "front1.example:50050"'),
        ("front.address", '"unix:/x"', f"'unix:/x' {CALLED}"),
        ("front.address", '"h:0"', f"'h:0' {CALLED}"),
        ("front.leader", "true", f"must be {LEADER}, not true"),
        ("front.leader", '"kubernetes:x"', f'must be {LEADER}, not "kubernetes:x"'),
        ("front.leader", '"kubernetes:"', f'must be {LEADER}, not "kubernetes:"'),
        ("front.leader", '"kubernetes:a/B"', f'must be {LEADER}, not "kubernetes:a/B"'),
        ("front.leader", '"kubernetes:a.b/c"', f'must be {LEADER}, not "kubernetes:a.b/c"'),
        ("front.leader", '"etcd:"', f"'' {CALLED}"),
        ("front.leader", '"etcd:h:1,"', f"'' {CALLED}"),
        ("front.leader", '"etcd:http://h:1"', f"'http:' {CALLED}"),
        (
            "front.leader",
            '"etcd:h:1/"',
            "'/' is no prefix of keys; write one such as /pool-service, or leave it out",
        ),
        ("front.discovery", '"consul:h:1"', f'must be {DISCOVERY}, not "consul:h:1"'),
        ("front.discovery", '"kubernetes"', f'must be {DISCOVERY}, not "kubernetes"'),
        ("front.discovery", '"kubernetes:x"', f'must be {DISCOVERY}, not "kubernetes:x"'),
        ("front.discovery", '"kubernetes:/x"', f'must be {DISCOVERY}, not "kubernetes:/x"'),
        *(
            (
                "front.discovery",
                f'"kubernetes:a/b:{port}"',
                f"'{port}' is neither the number nor the name of a port of a Service",
            )
            for port in ("", "0", "65536", "-1", "Grpc", "-a", "a--b", "longer-than-15-c")
        ),
        ("front.discovery", '"ray:"', f"'' {CALLED}"),
        ("front.discovery", '"ray:ray://h:1"', f"'ray://h:1' {CALLED}"),
        ("front.leader", '"ray:h:1"', f'must be {LEADER}, not "ray:h:1"'),
        ("kubernetes.server", '"10.0.0.1:6443"', f'must be {SERVER}, not "10.0.0.1:6443"'),
        ("kubernetes.server", '"ftp://10.0.0.1:1"', f'must be {SERVER}, not "ftp://10.0.0.1:1"'),
        ("kubernetes.server", '"https://10.0.0.1"', f"'10.0.0.1' {CALLED}"),
        (
            "kubernetes.server",
            '"http://10.0.0.1:8001"',
            "'http://10.0.0.1:8001' is on another machine and has no TLS; write https://",
        ),
        ("member_tls.san", '"*.x"', "'*.x' is neither a DNS name nor an IP address"),
        ("front.discovery", '"dns:"', "'' is no name of DNS"),
        ("front.discovery", '"dns:10.0.0.1"', "'10.0.0.1' is no name of DNS"),
        ("front.discovery", '"dns:x:0"', f"'x:0' {CALLED}"),
        ("members.a.address", '"0.0.0.0:1"', f"'0.0.0.0:1' {CALLED}"),
        ("members.a.address", '"[::]:1"', f"'[::]:1' {CALLED}"),
        ("members.a.address", '["h:1"]', f'must be {MEMBER}, not ["h:1"]'),
        ("members.a.lost_after", "0", f"must be {LENGTH} (more than 0, at most ten years), not 0"),
        (
            "members.a.san",
            '"*.example"',
            (
                "'*.example' is neither a DNS name nor an IP address; write it as the member's "
                "certificate has it, without a wildcard"
            ),
        ),
        (
            "members.a.san",
            '"spiffe://home/a"',
            (
                "'spiffe://home/a' is neither a DNS name nor an IP address; write it as the "
                "member's certificate has it, without a wildcard"
            ),
        ),
        ("etcd.user", "3", "must be the name of a user of etcd, in quotes, not 3"),
        ("member_tls.ca", "3", "must be the path of a file, in quotes, not 3"),
    ],
)
def test_a_value_of_another_form_is_refused(
    refusal: Refusal, key: str, value: str, told: str
) -> None:
    assert f"{key}: {told}" in refusal(f"{key} = {value}")


FAR = '[members]\nstudio = "studio.example:50051"\n'
BY_LEASE = '[front]\naddress = "127.0.0.1:50050"\nleader = "kubernetes"\n'
FOUND = '[front]\ndiscovery = "kubernetes:fleet/members"\n'
LED = '[front]\naddress = "127.0.0.1:50050"\nleader = "etcd:127.0.0.1:2379"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "",
            (
                'members: must have at least one member, NAME = "host:port"; or set '
                "front.discovery, if something else knows them"
            ),
        ),
        (
            f'[front]\ndiscovery = "dns:x"\n{ONE}{FILES}',
            "front.discovery: is dns:x, and [members] names members; remove one of the two",
        ),
        (
            f'[front]\nleader = "etcd:127.0.0.1:2379"\n{ONE}',
            (
                "front.address: must be set, since front.leader is etcd:127.0.0.1:2379: the "
                "host:port at which the other fronts reach this one"
            ),
        ),
        (
            f'[front]\nleader = "etcd:127.0.0.1:2379"\naddress = "10.0.0.1:1"\n{ONE}{FILES}',
            (
                "front.address: 10.0.0.1:1 is for other machines, and front.listen has only "
                "addresses of this one; add one that they reach"
            ),
        ),
        (
            f"[front]\nlost_after = 1\nbeat = 0.6\n{ONE}",
            "front.lost_after: lost_after (1 s) must be at least twice front.beat (0.6 s)",
        ),
        (
            '[members.a]\naddress = "127.0.0.1:1"\nlost_after = "0.9s"',
            "members.a.lost_after: lost_after (0.9 s) must be at least twice front.beat (0.5 s)",
        ),
        (
            '[members]\na = "127.0.0.1:1"\nb = "localhost:1"',
            "members.b.address: localhost:1 is that of members.a; remove one of them",
        ),
        (
            '[members]\na = "localhost:50050"',
            (
                "members.a.address: localhost:50050 is the front's own (front.listen); write that "
                "of a service"
            ),
        ),
        (
            FAR,
            (
                "member_tls: must have ca, cert, key: the front calls other machines "
                "(studio.example:50051), and the front and they know each other by certificates"
            ),
        ),
        (
            f'{FAR}[member_tls]\nca = "/ca"\ncert = "/cert"',
            (
                "member_tls: must have key: the front calls other machines "
                "(studio.example:50051), and the front and they know each other by certificates"
            ),
        ),
        (
            '[front]\ndiscovery = "dns:x"',
            (
                "member_tls: must have ca, cert, key: the members that dns:x knows are on "
                "other machines, and the front and they know each other by certificates"
            ),
        ),
        (
            f'{ONE}[member_tls]\nca = "/ca"',
            "member_tls.ca: has no effect without cert, key; set all three, or none",
        ),
        (
            f'{ONE}[etcd]\nuser = "x"',
            (
                "etcd.user: has no effect, since neither front.leader nor front.discovery is etcd; "
                "remove it"
            ),
        ),
        (
            f'{ONE}[ray]\npython = "/opt/ray/bin/python"',
            "ray.python: has no effect, since front.discovery is not ray; remove it",
        ),
        (
            f'{ONE}[kubernetes]\nserver = "https://h:1"',
            (
                "kubernetes.server: has no effect, since neither front.leader nor front.discovery "
                "is kubernetes; remove it"
            ),
        ),
        (
            f'{BY_LEASE}{ONE}[kubernetes]\nca = "/a"',
            (
                "kubernetes.ca: has no effect without server: a pod uses its service account; "
                "remove it"
            ),
        ),
        (
            f'{BY_LEASE}{ONE}[kubernetes]\nserver = "http://127.0.0.1:8001"',
            (
                "front.leader: must be kubernetes:NAMESPACE/NAME: with kubernetes.server the front "
                "is in no pod, whose namespace could be meant"
            ),
        ),
        (
            f'{FOUND}{FILES}[kubernetes]\nserver = "https://h:1"',
            (
                "kubernetes.token_file: must be set, or cert and key: the API server tells nothing "
                "to somebody unknown"
            ),
        ),
        (
            f'{FOUND}{FILES}[kubernetes]\nserver = "https://h:1"\ntoken_file = "/t"\nkey = "/k"',
            "kubernetes.key: has no effect without cert; set both or neither",
        ),
        (
            FOUND,
            (
                "member_tls: must have ca, cert, key: the members that kubernetes:fleet/members "
                "knows are on other machines, and the front and they know each other by "
                "certificates"
            ),
        ),
        (
            f"{FOUND}{ONE}{FILES}",
            (
                "front.discovery: is kubernetes:fleet/members, and [members] names members; remove "
                "one of the two"
            ),
        ),
        (
            f'{ONE}[member_tls]\nsan = "x"',
            (
                "member_tls.san: has no effect, since front.discovery is static; set "
                "members.NAME.san instead"
            ),
        ),
        (
            f'{ONE}[member_tls]\nfront_san = "x"',
            (
                "member_tls.front_san: has no effect, since front.leader is none: there are no "
                "other fronts; remove it"
            ),
        ),
        (
            f'{LED}{ONE}[etcd]\ncert = "/c"\nca = "/a"',
            "etcd.cert: has no effect without key; set both or neither",
        ),
        (
            f'{LED}{ONE}[etcd]\ncert = "/c"\nkey = "/k"',
            "etcd.cert: has no effect without ca; set both or neither",
        ),
        (
            f'{LED}{ONE}[etcd]\nuser = "x"',
            "etcd.user: has no effect without password_file; set both or neither",
        ),
        (
            f'{LED}{ONE}[etcd]\npassword_file = "/p"',
            "etcd.password_file: has no effect without user; set both or neither",
        ),
        (
            f'[front]\ndiscovery = "etcd:e1:2379,127.0.0.1:2379,e2:2379"\n{FILES}',
            (
                "etcd.ca: must be set: etcd is on other machines (e1:2379, e2:2379), and whoever "
                "speaks for it decides who leads and who the members are"
            ),
        ),
        (
            f'{ONE}[clients.x]\ntoken_sha256 = "{"a" * 64}"\nmemory_share = "50%"',
            (
                "clients.x.memory_share: has no effect: a front has no memory budget of its own; "
                "remove it"
            ),
        ),
        (
            f'{ONE}[clients.x]\ntoken_sha256 = "{"a" * 64}"\nstarts_per_minute = 3',
            (
                "clients.x.starts_per_minute: has no effect: the members start the servers, and "
                "count no callers of a front; remove it"
            ),
        ),
        (
            f'{ONE}[clients.x]\ntoken_sha256 = "{"a" * 64}"\nmodels = ["{"m" * 400}"'
            + f', "{"n" * 400}"' * 15
            + "]",
            (
                "clients.x.models: takes 6432 bytes, and a front can send 6144 with each call to "
                "its members; use fewer patterns, with wildcards, or more than one client"
            ),
        ),
        (
            f"{ONE}[clients.x]",
            (
                "clients.x.token_sha256: must be set, or san: nobody is known to be this client "
                "otherwise"
            ),
        ),
        (
            f'[http]\nlisten = "127.0.0.1:50050"\n{ONE}',
            (
                "http.listen: 127.0.0.1:50050 is in front.listen already; choose another port or "
                "path"
            ),
        ),
        (
            f'[tls]\ncert = "/c"\nkey = "/k"\nclient_ca = "/a"\ntoken_addresses = ["h:1"]\n{ONE}',
            "tls.token_addresses: h:1 is not in front.listen, as it is written there; add it",
        ),
    ],
)
def test_values_that_contradict_each_other_are_refused(
    refusal: Refusal, text: str, told: str
) -> None:
    assert refusal(text) == told


def test_another_machine_reaches_the_front_by_tls_only(refusal: Refusal) -> None:
    told = refusal(f'[front]\nlisten = ["0.0.0.0:50050"]\n{ONE}')
    assert told.startswith("front.listen: 0.0.0.0:50050 can be reached from other machines")
    assert "set tls.cert and tls.key" in told


def test_other_fronts_on_other_machines_are_called_by_tls_only(refusal: Refusal) -> None:
    text = (
        '[front]\nlisten = ["0.0.0.0:50050"]\naddress = "10.0.0.1:50050"\n'
        'leader = "etcd:127.0.0.1:2379"\n'
        f'[tls]\ncert = "/c"\nkey = "/k"\n{ONE}'
    )
    told = refusal(text)
    assert told.startswith("member_tls: must have ca, cert, key: the other fronts are on")


def test_a_contradiction_names_the_variable_or_flag_that_made_it(refusal: Refusal) -> None:
    variable = {"POOL_SERVICE_FLEET_LOST_AFTER": "0.1"}
    assert refusal(ONE, variable) == (
        "POOL_SERVICE_FLEET_LOST_AFTER: lost_after (0.1 s) must be at least twice front.beat "
        "(0.5 s)"
    )
    told = refusal(ONE, {}, {"listen": ("0.0.0.0:1",)})
    assert told.startswith("--listen: 0.0.0.0:1 can be reached from other machines")
