"""Checks across the keys of [etcd]."""

from collections.abc import Iterator

from pool_service.address import Address
from pool_service.config.errors import KeyPath
from pool_service.config.etcd_section import EtcdSection


def etcd_contradictions(
    section: EtcdSection, endpoints: tuple[str, ...], unused: str
) -> Iterator[tuple[KeyPath, str]]:
    """Yield each key of [etcd] that contradicts another.

    endpoints: all that the configuration names. unused: why there is none, in words.
    """
    if not endpoints:
        for key in sorted(section.model_fields_set):
            yield ("etcd", key), f"has no effect, since {unused}; remove it"
        return
    yield from _pairs(section)
    far = [text for text in endpoints if not Address.parse(text).is_local]
    if section.ca is None and far:
        what = (
            f"must be set: etcd is on other machines ({', '.join(dict.fromkeys(far))}), and "
            "whoever speaks for it decides who leads and who the members are"
        )
        yield ("etcd", "ca"), what


def _pairs(section: EtcdSection) -> Iterator[tuple[KeyPath, str]]:
    needs = (
        ("cert", "key"),
        ("key", "cert"),
        ("cert", "ca"),
        ("user", "password_file"),
        ("password_file", "user"),
    )
    for one, other in needs:
        if getattr(section, one) and not getattr(section, other):
            yield ("etcd", one), f"has no effect without {other}; set both or neither"
