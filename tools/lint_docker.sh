#!/bin/sh
# hadolint comes as a wheel with the binary, for the usual machines.
set -eu
cd "$(dirname "$0")/.."
exec .venv/bin/hadolint Dockerfile.dev packaging/docker/Dockerfile
