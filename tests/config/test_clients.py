"""Who may call: the rule for this machine, and clients with their rights."""

import pytest

from pool_service.access import tokens
from pool_service.access.authentication import Local
from pool_service.access.principal import CallerLimits, Principal, Scope
from pool_service.config import restart_needed
from tests.config.conftest import Read, Refusal

DIGEST = "ab" * 32


def test_without_a_setting_the_own_user_may_call(read: Read) -> None:
    assert read("").auth.local is Local.SAME_USER


@pytest.mark.parametrize("local", Local)
def test_the_rule_for_this_machine_is_one_of_three_words(read: Read, local: Local) -> None:
    assert read(f"[auth]\nlocal = '{local}'").auth.local is local
    environment = {"POOL_SERVICE_AUTH_LOCAL": local.upper()}
    assert read("", environment).auth.local is local


def test_another_word_is_refused_with_the_three(refusal: Refusal) -> None:
    told = refusal("[auth]\nlocal = 'root'")
    assert told.startswith('auth.local: must be "same-user", "token" or "anyone"')


def test_a_reload_applies_who_may_call(read: Read) -> None:
    changed = read(f"[auth]\nlocal = 'token'\n[clients.a]\ntoken_sha256 = '{DIGEST}'")
    assert restart_needed(read(""), changed) == ()


def test_a_client_has_the_least_rights_unless_more_are_given(read: Read) -> None:
    section = read(f"[clients.prometheus]\ntoken_sha256 = '{DIGEST}'").clients["prometheus"]
    client = section.client("prometheus")
    assert client.token_sha256 == bytes.fromhex(DIGEST)
    assert client.principal == Principal("prometheus", Scope.READ)


def test_a_client_has_the_rights_that_are_given(read: Read) -> None:
    config = read(f"""
        [clients.engine]
        token_sha256 = '{DIGEST}'
        scope = "use"
        logs = true
        models = ["chat", "team-*"]
        max_holds = 1
        max_waiting = 2
        max_streams = 3
        starts_per_minute = 4
        memory_share = "62.5%"
    """)
    principal = config.clients["engine"].client("engine").principal
    assert (principal.scope, principal.logs) == (Scope.USE, True)
    assert principal.models.patterns == ("chat", "team-*")
    assert principal.limits == CallerLimits(1, 2, 3, 4, 0.625)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("", "token_sha256: must be set, or san"),
        ("san = '*.example'", "without a wildcard"),
        ("san = 'spiffe://home/engine'", "san: has no effect without tls.client_ca"),
        ("token_sha256 = 'pst_" + "a" * 43 + "'", "is a token itself"),
        ("token_sha256 = 'abc'", "64 lower-case hexadecimal digits"),
        (f"token_sha256 = '{DIGEST.upper()}'", "64 lower-case hexadecimal digits"),
        (f"token_sha256 = '{DIGEST}'\nscope = 'root'", '"read", "use" or "admin"'),
        (f"token_sha256 = '{DIGEST}'\nmodels = ['']", "models"),
        (f"token_sha256 = '{DIGEST}'\nmax_holds = -1", "whole number"),
        (f"token_sha256 = '{DIGEST}'\nmemory_share = '0%'", 'a share in percent, such as "50%"'),
        (f"token_sha256 = '{DIGEST}'\nmemory_share = '101%'", 'a share in percent, such as "50%"'),
        (f"token_sha256 = '{DIGEST}'\nmemory_share = '8 GB'", 'a share in percent, such as "50%"'),
    ],
)
def test_what_is_no_client_is_refused(refusal: Refusal, keys: str, told: str) -> None:
    assert told in refusal(f"[clients.engine]\n{keys}")


def test_no_error_repeats_a_token(refusal: Refusal) -> None:
    token = tokens.new_token()
    assert token not in refusal(f"[clients.engine]\ntoken_sha256 = '{token}'")


TLS = "[service]\nlisten = ['0.0.0.0:1']\n[tls]\ncert = '/c'\nkey = '/k'\nclient_ca = '/a'\n"


def test_a_client_is_known_by_its_certificate_too(read: Read) -> None:
    sections = read(f"""{TLS}
        [clients.a]
        san = 'spiffe://home/a'
        [clients.b]
        san = 'b.example'
        token_sha256 = '{DIGEST}'
    """).clients
    a, b = (sections[name].client(name) for name in "ab")
    assert (a.token_sha256, a.sans) == (None, frozenset({"spiffe://home/a"}))
    assert (b.token_sha256, b.sans) == (bytes.fromhex(DIGEST), frozenset({"b.example"}))


def test_two_clients_have_no_certificate_together(refusal: Refusal) -> None:
    told = refusal(f"{TLS}[clients.a]\nsan = 'x.example'\n[clients.b]\nsan = 'x.example'")
    assert told.startswith("clients.b.san: is that of [clients.a]")


def test_no_client_is_called_as_the_own_user_is(refusal: Refusal) -> None:
    told = refusal(f"[clients.local]\ntoken_sha256 = '{DIGEST}'")
    assert told.startswith("clients.local.token_sha256: ")


def test_two_clients_have_no_token_together(refusal: Refusal) -> None:
    section = f"token_sha256 = '{DIGEST}'"
    told = refusal(f"[clients.a]\n{section}\n[clients.b]\n{section}")
    assert told.startswith("clients.b.token_sha256: is that of [clients.a]")


def test_an_admin_may_know_of_all_models(refusal: Refusal) -> None:
    told = refusal(f"[clients.a]\ntoken_sha256 = '{DIGEST}'\nscope = 'admin'\nmodels = ['chat']")
    assert told.startswith("clients.a.models: an admin")
