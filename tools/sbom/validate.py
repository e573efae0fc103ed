"""Says whether bills are valid by CycloneDX's own schema; runs in the environment of the tools."""

import json
import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

if __name__ == "__main__":
    for name in sys.argv[1:]:
        text = Path(name).read_text()
        version = SchemaVersion.from_version(json.loads(text)["specVersion"])
        error = JsonStrictValidator(version).validate_str(text)
        if error:
            sys.exit(f"{name}: {error}")
