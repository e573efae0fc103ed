"""Copies: of several servers of one model on different hosts, which one stays."""

from collections.abc import Iterable

from pool_service.fleet.core.values import SeenServer, ServerState


def kept(servers: Iterable[SeenServer], claimed: str = "") -> SeenServer | None:
    """Return the living server of one model that callers get; None if none lives.

    claimed: the host that the model was placed on; empty: none. Its server stays: it was handed out
    last. Otherwise the highest generation does, as generations rise over the whole fleet.
    """
    living = [server for server in servers if server.lives]
    if not living:
        return None
    return max(
        living,
        key=lambda one: (
            one.host == claimed,
            one.state is ServerState.READY,
            one.generation,
            one.host,
        ),
    )


def surplus(servers: Iterable[SeenServer], claimed: str = "") -> list[SeenServer]:
    """Return the living servers of one model on other hosts than the one that stays."""
    among = list(servers)
    stays = kept(among, claimed)
    if stays is None:
        return []
    return [one for one in among if one.lives and one.host != stays.host]
