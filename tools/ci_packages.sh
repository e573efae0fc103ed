#!/bin/sh
# What CI needs beside the toolchains: gRPC for C++, which tests/toolchains builds with; the shell
# and the awk of macOS, by which tests/tools reads documents and the Makefile; fish for completion;
# systemd, mandoc and ruby, which check units, manual pages and the formula; Prometheus, which scrapes
# the service and checks metrics, alerts and the dashboard; Chromium, which shows the page; ip of
# iproute2, which makes the networks of tests/fleet, and etcd, by which its fronts choose a leader.
# They are installed where this runs as root on Debian; nowhere else is anything installed.
set -eu

packages="libgrpc++-dev libprotobuf-dev protobuf-compiler-grpc protobuf-compiler pkg-config zsh original-awk fish mandoc ruby systemd prometheus chromium iproute2 etcd-server"

missing=""
for package in $packages; do
    state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) || state=""
    [ "$state" = installed ] || missing="$missing $package"
done
if [ -z "$missing" ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" -ne 0 ]; then
    echo "ci_packages: not there:$missing" >&2
    echo "ci_packages: only root on Debian gets them installed; install them by hand." >&2
    exit 1
fi
echo "ci_packages: installing$missing"
apt-get update --quiet=2
# shellcheck disable=SC2086  # words
DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --no-install-recommends $missing
