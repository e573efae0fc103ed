"""Says which packages the service requires: those that pyproject.toml lists, and the client."""

import os
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

NAME = "pool-service-client"
FOR_OTHERS = "POOL_SERVICE_DIST"
"""Set by `make dist`: what is built leaves this machine."""


class RequirementsHook(MetadataHookInterface):
    """Requires the client from where it is to be had.

    - In a clone it lies beside the service, so that a clone installs without any registry.
    - What leaves the machine requires it by version. An sdist keeps that in its PKG-INFO, which
      hatchling prefers to this hook, so wheels that are built from it require the same.
    """

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the dependencies of the project."""
        client = Path(self.root).resolve() / "clients/python"
        nearby = client.is_dir() and not os.environ.get(FOR_OTHERS)
        required = f"{NAME} @ {client.as_uri()}" if nearby else f"{NAME}~={metadata['version']}"
        metadata["dependencies"] = [*self.config["dependencies"], required]
