"""Clients of the configuration and of the file of tokens, together."""

import structlog

from pool_service.access.authentication import Local, Rules
from pool_service.access.clients import Client
from pool_service.access.principal import Principal, Scope
from pool_service.client_registry import ClientRegistry
from tests.config.conftest import Read

DIGEST = "ab" * 32
OTHER = Client(Principal("other", Scope.USE), b"other")
SAME = Client(Principal("engine", Scope.ADMIN), b"same")
ENGINE = f"[clients.engine]\ntoken_sha256 = '{DIGEST}'"


def test_both_are_let_in_and_where_both_have_a_name_the_configuration_counts(read: Read) -> None:
    rules = Rules()
    registry = ClientRegistry(rules, read(ENGINE))
    with structlog.testing.capture_logs() as logs:
        registry.create([OTHER, SAME])
        registry.create([OTHER, SAME])
    assert rules.clients.by_token(b"other", 0.0) is OTHER.principal
    assert rules.clients.by_token(b"same", 0.0) is None
    found = rules.clients.by_token(bytes.fromhex(DIGEST), 0.0)
    assert found == Principal("engine", Scope.READ)
    assert len(logs) == 1, "it is told once"


def test_a_reload_changes_what_the_configuration_says_and_leaves_the_file(read: Read) -> None:
    rules = Rules()
    registry = ClientRegistry(rules, read(ENGINE))
    registry.create([OTHER])
    registry.configure(read("[auth]\nlocal = 'token'"))
    assert rules.local is Local.TOKEN
    assert "engine" not in rules.clients
    assert rules.clients.by_token(b"other", 0.0) is OTHER.principal
