#!/bin/sh
# Resolves the pinned lists, from the widest to the narrowest, so that a package has one version
# in all of them. Without index addresses: whoever installs has their own. With the hash of every
# file of a package, for any platform, so that whatever address it comes from it is the same.
set -eu
cd "$(dirname "$0")/.."
export UV_CUSTOM_COMPILE_COMMAND="make lock"

compile() {
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-package pool-service-client "$@"
}

compile requirements/runtime.in \
    --overrides requirements/runtime-overrides.txt --excludes requirements/runtime-excludes.txt \
    --output-file pool_service/runtime_requirements.txt "$@"
compile pyproject.toml --group dev --constraints pool_service/runtime_requirements.txt \
    --output-file requirements/dev.txt "$@"
compile pyproject.toml --constraints requirements/dev.txt \
    --output-file requirements/service.txt "$@"
compile requirements/docs.in clients/python/pyproject.toml --constraints requirements/dev.txt \
    --output-file requirements/docs.txt "$@"
