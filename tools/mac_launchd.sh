#!/bin/sh
# Tries the agent of packaging/launchd on a Mac, with a small model on the real runtime:
#
#     sh tools/mac_launchd.sh
#
# launchd starts it; killed, and restarted as docs/how-to/install.md says, it must have taken its server
# over: the same process, and an endpoint that answers. It has a label, a state directory and a
# socket of its own, so that an installed one is not touched; nothing of it stays (its guard for
# a minute more).
# DOMAIN: gui/UID unless it is given, which needs a user who is logged in at the screen.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
python="$root/.venv/bin/python"
label="pool-service-try-$$"
domain="${DOMAIN:-gui/$(id -u)}"
work=$(mktemp -d /tmp/pool-XXXXXX)
export POOL_SERVICE_ADDRESS="unix:$work/s"

pool() {
    "$root/.venv/bin/pool-service" "$@"
}

fail() {
    echo "NOT $1" >&2
    tail -n 30 "$work/pool-service.log" >&2 || true
    exit 1
}

clean_up() {
    pool evict --all >/dev/null 2>&1 || true
    launchctl bootout "$domain/$label" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap clean_up EXIT

# Waits up to a minute until a command succeeds.
until_done() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 120 ] || return 1
        sleep 0.5
    done
}

ended() {
    ! kill -0 "$1"
}

# The service's own process, as launchd names it.
service_pid() {
    launchctl print "$domain/$label" | awk '$1 == "pid" && $2 == "=" { print $3; exit }'
}

# The process and the endpoint of the model.
server() {
    pool ensure try --runtime-model "$work/model" --json | "$python" -c '
import json, sys
server = json.load(sys.stdin)["server"]
print(server["pid"], server["endpoint"])'
}

# After each restart the same process must serve, and answer where it did.
must_be_kept() {
    until_done pool list || fail "$1: the service did not come back within a minute"
    now=$(server)
    [ "$now" = "$before" ] || fail "$1: $before became $now"
    "$python" -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=10)' \
        "${now#* }/health" || fail "$1: the endpoint does not answer"
    echo "OK  $1: $now"
}

"$python" - "$root" "$work" "$label" <<'END'
import plistlib
import sys
from pathlib import Path

from tools.demo.checkpoints import write_tiny_llama

root, work, label = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
program = root / ".venv/bin/pool-service"
text = (root / "packaging/launchd/pool-service.plist").read_text()
agent = plistlib.loads(text.replace("@PROGRAM@", str(program)).replace("@HOME@", str(work)).encode())
agent["Label"] = label
agent["ProgramArguments"] += ["--state-dir", f"{work}/state", "--listen", f"unix:{work}/s"]
agent["EnvironmentVariables"]["PATH"] = f"{program.parent}:/usr/bin:/bin:/usr/sbin:/sbin"
for stream in ("StandardOutPath", "StandardErrorPath"):
    agent[stream] = f"{work}/pool-service.log"
(work / "agent.plist").write_bytes(plistlib.dumps(agent))
write_tiny_llama(work / "model")
END
plutil -lint "$work/agent.plist"

launchctl bootstrap "$domain" "$work/agent.plist"
until_done pool list || fail "launchd did not start the service within a minute"
before=$(server)
echo "OK  launchd started the service, and that a server: $before"

service=$(service_pid)
launchctl kickstart -k "$domain/$label"
until_done ended "$service" || fail "kickstart -k did not end the service"
must_be_kept "after kickstart -k"

service=$(service_pid)
kill -KILL "$service"
until_done ended "$service" || fail "SIGKILL did not end the service"
must_be_kept "after a crash"

service=$(service_pid)
launchctl kill SIGTERM "$domain/$label"
until_done ended "$service" || fail "SIGTERM did not end the service within a minute"
launchctl kickstart "$domain/$label"
must_be_kept "after SIGTERM and kickstart"

pool evict --all >/dev/null
service=$(service_pid)
launchctl bootout "$domain/$label"
until_done ended "$service" || fail "bootout did not end the service within a minute"
until_done ended "${before% *}" || fail "the evicted server lives on"
echo "OK  after bootout neither the service nor its server is left"
