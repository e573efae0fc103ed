"""Names of certificates: each kind by its own form, so that none passes for another."""

import pytest

from pool_service.access.sans import SanKind, kind_of_san, sans_of


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("spiffe://home/engine", SanKind.URI),
        ("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", SanKind.URI),
        ("mailto:ada@home.example", SanKind.URI),
        ("engine.home.example", SanKind.DNS),
        ("_engine", SanKind.DNS),
        ("ada@home.example", SanKind.EMAIL),
        ("10.0.0.1", SanKind.IP),
        ("fe80::1", SanKind.IP),
        ("FE80::1", None),
        ("*.home.example", None),
        ("home.example.", None),
        ("-x.example", None),
        ("", None),
        ("a b", None),
        ("spiffe://home/engine\n", None),
        ("ada@", None),
        ("a/b@home.example", None),
    ],
)
def test_the_form_of_a_name_is_that_of_one_kind(name: str, kind: SanKind | None) -> None:
    assert kind_of_san(name) is kind


def test_a_name_counts_only_as_what_the_certificate_says_that_it_is() -> None:
    names = ["spiffe://home/engine", "engine.example", "ada@home.example", "10.0.0.1"]
    assert set(sans_of(dict.fromkeys(SanKind, names))) == set(names)
    for kind, right in zip(
        (SanKind.URI, SanKind.DNS, SanKind.EMAIL, SanKind.IP), names, strict=True
    ):
        assert sans_of({kind: names}) == (right,)
