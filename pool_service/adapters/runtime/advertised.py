"""The address of a fleet: whether it is there, and which runtimes may not do what it demands."""

from pool_service.adapters.runtime import vllm_mlx
from pool_service.adapters.runtime.key_delivery import key_variables, names_key
from pool_service.adapters.runtime.launch_plan import HOST, option_names
from pool_service.adapters.runtime.runtime_options import RuntimeOptions
from pool_service.adapters.sockets.own_addresses import is_own_address
from pool_service.core.errors import RuntimeUnavailable
from pool_service.core.types import Settings


def address_flaw(host: str) -> str:
    """Return why no server can listen at an advertised address, and what to do; empty if it can.

    host: empty: none is advertised.
    """
    if not host or is_own_address(host):
        return ""
    return (
        f"fleet.advertise is {host}, which is no address of this machine now; bring up the network "
        "that has it, or correct the key and restart the service"
    )


def address_notices(host: str) -> list[str]:
    """Return a sentence about an advertised address that is not there; none if it is."""
    flaw = address_flaw(host)
    return [f"No server can start: {flaw}."] if flaw else []


def check_address(host: str, model: str) -> None:
    """Raise RuntimeUnavailable if the server of a model cannot listen at the advertised address."""
    if flaw := address_flaw(host):
        raise RuntimeUnavailable(f"{model!r} cannot be started: {flaw}.", model=model)


def binding_doubt(options: RuntimeOptions) -> str:
    """Return why servers may not listen at the advertised address; empty without a doubt.

    Known programs are told the address, unless their command has the option for it. Others must be
    told by their command.
    """
    if not options.host or any(HOST in one or options.host in one for one in options.command):
        return ""
    names = _host_options(options)
    if names and names.isdisjoint(option_names(options.command)):
        return ""
    return (
        f"it does not tell the program to listen at {options.host}, as fleet.advertise says: write "
        f"{HOST} where the program expects its address, or servers that listen elsewhere are "
        "ended as they become ready"
    )


def _host_options(options: RuntimeOptions) -> frozenset[str]:
    """Return the options by which a known program is told where to listen; empty of another."""
    if options.effective_kind == "vllm-mlx":
        return frozenset({vllm_mlx.HOST_OPTION})
    described = options.description
    known = described.options if described else ()
    return frozenset(name for one in known if one.value == HOST for name in one.names)


def key_doubt(options: RuntimeOptions) -> str:
    """Return why servers ask for no key though other machines may reach them; empty otherwise."""
    if not options.leaves_loopback or options.is_sent_its_key or not options.server_keys:
        return ""
    settings = Settings(runtime_model="")
    if names_key(options.command, (*key_variables(options, settings), *options.environment)):
        return ""
    return (
        f"its servers get no key, so whoever reaches {options.host} can use them: say how the "
        "program gets one ({api_key_file} in the command, or {api_key} in environment), if it can"
    )
