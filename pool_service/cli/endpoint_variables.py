"""Variables for programs that make requests to a model's server."""

import shlex
from typing import Final

from pool_service_client import Server

ENDPOINT: Final = "POOL_ENDPOINT"
MODEL: Final = "POOL_MODEL"
API_KEY: Final = "POOL_API_KEY"


def variables(server: Server) -> dict[str, str]:
    """Return the variables for requests to a READY server. API_KEY is empty if it asks for none."""
    return {
        ENDPOINT: server.endpoint,
        MODEL: server.served_model_name,
        API_KEY: server.api_key,
    }


def exports(server: Server) -> list[str]:
    """Return the variables as commands of a shell."""
    values = variables(server).items()
    return [f"export {name}={shlex.quote(value)}" for name, value in values]
