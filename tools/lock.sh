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

compile packaging/requirements/runtime.in \
    --overrides packaging/requirements/runtime-overrides.txt --excludes packaging/requirements/runtime-excludes.txt \
    --output-file pool_service/runtime_requirements.txt "$@"
compile pyproject.toml --group dev --extra fleet --extra kubernetes --extra otel --extra gateway --constraints pool_service/runtime_requirements.txt \
    --output-file packaging/requirements/dev.txt "$@"
compile pyproject.toml --constraints packaging/requirements/dev.txt \
    --output-file packaging/requirements/service.txt "$@"
compile pyproject.toml --extra otel --constraints packaging/requirements/dev.txt \
    --output-file packaging/requirements/otel.txt "$@"
compile pyproject.toml --extra gateway --constraints packaging/requirements/dev.txt \
    --output-file packaging/requirements/gateway.txt "$@"
compile pyproject.toml --extra fleet --constraints packaging/requirements/dev.txt \
    --output-file packaging/requirements/fleet.txt "$@"
compile pyproject.toml --extra kubernetes --constraints packaging/requirements/dev.txt \
    --output-file packaging/requirements/kubernetes.txt "$@"
compile clients/python/pyproject.toml --constraints packaging/requirements/service.txt \
    --output-file packaging/requirements/client.txt "$@"
compile packaging/requirements/build.in --constraints packaging/requirements/dev.txt \
    --output-file packaging/requirements/build.txt "$@"
compile packaging/requirements/docs.in clients/python/pyproject.toml --constraints packaging/requirements/dev.txt \
    --output-file packaging/requirements/docs.txt "$@"
compile packaging/requirements/supply.in --constraints packaging/requirements/dev.txt \
    --output-file packaging/requirements/supply.txt "$@"
compile packaging/requirements/sdks.in --constraints packaging/requirements/dev.txt \
    --output-file packaging/requirements/sdks.txt "$@"
