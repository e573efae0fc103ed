#!/bin/sh
# Tries the unit for the machine under a systemd that runs, as root:
#
#     sudo sh tools/systemd_unit.sh
#
# It installs this clone as docs/how-to/install.md says, and removes everything again. Restarted
# and killed, the service must have kept its server, which is a small program that needs no model.
# For a machine that may be thrown away: it is refused where the service is installed.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
unit=/etc/systemd/system/pool-service.service
export POOL_SERVICE_ADDRESS=unix:/run/pool-service/pool.sock

[ "$(id -u)" = 0 ] || { echo "NOT root: say sudo sh tools/systemd_unit.sh" >&2; exit 1; }
for path in "$unit" /opt/pool-service /var/lib/pool-service /var/cache/pool-service; do
    [ ! -e "$path" ] || { echo "NOT tried: the service is installed here ($path)" >&2; exit 1; }
done

pool() {
    /opt/pool-service/bin/pool-service "$@"
}

fail() {
    echo "NOT $1" >&2
    journalctl --no-pager --unit pool-service --lines 30 >&2 || true
    exit 1
}

uninstall() {
    pool evict --all --force >/dev/null 2>&1 || true
    systemctl --quiet disable --now pool-service || true
    systemctl kill pool-service 2>/dev/null || true
    rm -rf "$unit" "$unit.d" /opt/pool-service /var/lib/pool-service /var/cache/pool-service
    systemctl daemon-reload
    userdel pool-service 2>/dev/null || true
}
trap uninstall EXIT

# Waits up to a minute until a command succeeds.
until_done() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 120 ] || return 1
        sleep 0.5
    done
}

service_pid() {
    systemctl show --property MainPID --value pool-service
}

is_another() {
    [ "$(service_pid)" != "$1" ] && [ "$(service_pid)" != 0 ]
}

# The process and the endpoint of the server.
server() {
    answer=$(pool ensure try --runtime-model /opt/pool-service/share --json) || return 1
    echo "$answer" | python3 -c '
import json, sys
server = json.load(sys.stdin)["server"]
print(server["pid"], server["endpoint"])'
}

# After each restart the same process must serve, and answer where it did.
must_be_kept() {
    until_done is_another "$service" || fail "$1: there is no other service within a minute"
    until_done pool list || fail "$1: the service did not come back within a minute"
    now=$(server) || fail "$1: no server is ready"
    [ "$now" = "$before" ] || fail "$1: $before became $now"
    python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=10)' \
        "${now#* }" || fail "$1: the endpoint does not answer"
    echo "OK  $1: $now"
}

useradd --system --home-dir /var/lib/pool-service --shell /usr/sbin/nologin pool-service
python3 -m venv /opt/pool-service
/opt/pool-service/bin/pip install --quiet "$root"
cp "$root/packaging/systemd/system/pool-service.service" "$unit"
mkdir "$unit.d"
cat > "$unit.d/try.conf" <<'END'
[Service]
Environment=POOL_SERVICE_STANDBY=0 POOL_SERVICE_RUNTIME_HEALTH_PATH=/
Environment='POOL_SERVICE_RUNTIME_COMMAND=python3 -m http.server --bind 127.0.0.1 {port}'
END
systemctl daemon-reload
systemctl --quiet enable --now pool-service
until_done pool list || fail "systemd did not start the service within a minute"
before=$(server) || fail "no server became ready"
echo "OK  systemd started the service, and that a server: $before"

service=$(service_pid)
systemctl restart pool-service
must_be_kept "after a restart"

service=$(service_pid)
systemctl kill --kill-whom=main --signal=KILL pool-service
must_be_kept "after a crash"

uninstall
trap - EXIT
[ ! -e "/proc/${before% *}" ] || fail "the evicted server lives on"
left=$(find /run/pool-service /var/lib/pool-service /var/cache/pool-service 2>/dev/null || true)
[ -z "$left" ] || fail "the uninstall left $left"
echo "OK  neither the service nor its server is left"
