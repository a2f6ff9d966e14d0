#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# --track: a disk without a peer notes what is changed, for backups: exactly
# after a clean stop, too widely after a crash, never too little (A10), also of
# discards and zeros.  Its metadata may become those of one of two replicas.
#
# over: san io
# time limit: 120
. "$(dirname "$0")/lib.sh"

need python3 qemu-io
export PATH=$BUILD:$PATH TAPDISK_RUN_DIR=$run_dir

write() { # REGION...
    python3 - "$uri" "$@" <<'PY'
import os, sys
import nbd
h = nbd.NBD()
h.connect_uri(sys.argv[1])
for word in sys.argv[2:]:
    what, region = word[0], int(word[1:])
    if what == "w":
        h.pwrite(os.urandom(512), region * 65536 + 512)
    elif what == "z":
        h.zero(65536, region * 65536)
    else:
        h.trim(65536, region * 65536)
h.shutdown()
PY
}

confirmed() { # NAME
    tap-ctl driver -n disk log "checkpoint list" | python3 -c '
import json, sys
rows = json.load(sys.stdin)["checkpoints"]
sys.exit(not any(r["name"] == sys.argv[1] and r["confirmed"] for r in rows))' \
        "$1"
}

checkpoint() { # NAME
    tap-ctl driver -n disk log "checkpoint create $1" >/dev/null
    wait_until confirmed "$1"
}

changed() { # NAME: "EXACT REGION..."
    tap-ctl driver -n disk log "changed $1" | python3 -c '
import json, sys
a = json.load(sys.stdin)
assert a["next"] == a["size"]
print(a["exact"], *(r for o, n in a["runs"]
                    for r in range(o // a["region"], (o + n) // a["region"])))'
}

answer_is() { # NAME ANSWER
    [ "$(changed "$1")" = "$2" ] || fail "$1: $(changed "$1"), not $2"
}

truncate -s 64M "$work/disk.img"
start_tapdisk disk --track "aio:$work/disk.img"
write w0 w1
checkpoint monday
answer_is monday "True"
write w5 w7 z9 d11
answer_is monday "True 5 7 9 11"
checkpoint tuesday
write w7 w1000
answer_is monday "True 5 7 9 11 1000"
answer_is tuesday "True 7 1000"
expect_failure 'no checkpoint' tap-ctl driver -n disk log "changed friday"
expect_failure 'letters' tap-ctl driver -n disk log "checkpoint create a/b"

# A clean stop loses nothing; the map is read again.
stop_tapdisk
start_tapdisk disk --track "aio:$work/disk.img"
answer_is tuesday "True 7 1000"

# A crash: too much is named, within what the log of intents held.
write w512
kill_tapdisk
start_tapdisk disk --track "aio:$work/disk.img"
read -r exact rest <<<"$(changed tuesday)"
[ "$exact" = False ] || fail "after a crash it claims to be exact"
for region in 7 512 1000; do
    [[ " $rest " == *" $region "* ]] || fail "$region is missing"
done
[ "$(wc -w <<<"$rest")" -le 194 ] || fail "it names $(wc -w <<<"$rest")"
checkpoint wednesday
write w3
answer_is wednesday "True 3"

# Somebody else wrote to it: all of it counts as changed, and it is said.
stop_tapdisk
qemu-io -f raw -c "write -P 1 1M 64k" "$work/disk.img" >/dev/null
start_tapdisk disk --track "aio:$work/disk.img"
grep -q "changed while it was not tracked" "$work/disk.log"
[ "$(changed wednesday | wc -w)" -eq 1025 ] || fail "not all counts"
stop_tapdisk

# Read-only there is nothing to track; other sizes are refused.
expect_failure 'read-only' tapdisk --name x --run-dir "$run_dir" --read-only \
    --track "aio:$work/disk.img"
expect_failure 'regions of 65536' tapdisk --name x --run-dir "$run_dir" \
    "log:region=4K|aio:$work/disk.img"

# A name that is given again between two slices of an answer: it is asked anew.
# What comes between them stands between tap-ctl and the daemon.
truncate -s 64M "$work/wide.img"
start_tapdisk wide "log:region=4K|aio:$work/wide.img"
tap-ctl checkpoint -n wide create monday
python3 - "$uri" <<'PY' # more runs than one answer holds
import sys
import nbd
h = nbd.NBD()
h.connect_uri(sys.argv[1])
for i in range(1100):
    h.pwrite(b"m" * 512, i * 8192)
h.shutdown()
PY
mkdir "$work/between"
export daemon=$run_dir/ctl$pid between=$work/between uri
python3 <<'PY' &
import json, os, socket, subprocess

server = socket.socket(socket.AF_UNIX)
server.settimeout(30)
server.bind("%s/ctl%d" % (os.environ["between"], os.getpid()))
server.listen()
asked = 0
while asked < 3:    # two, of one checkpoint and the other, and again
    client = server.accept()[0]
    daemon = socket.socket(socket.AF_UNIX)
    daemon.connect(os.environ["daemon"])
    answers = daemon.makefile()
    for line in client.makefile():
        if json.loads(line)["command"] == "changed":
            asked += 1
            if asked == 2:
                for verb in "delete", "create":
                    subprocess.run(["tap-ctl", "checkpoint", "-n", "wide",
                                    verb, "monday"], check=True)
                subprocess.run(["qemu-io", "-f", "raw", "-c", "write 8k 4k",
                                os.environ["uri"]], check=True)
        daemon.sendall(line.encode())
        client.sendall(answers.readline().encode())
PY
proxy=$!
reachable() { tap-ctl status --run-dir "$between" -n wide >/dev/null 2>&1; }
wait_until reachable
tap-ctl changed --run-dir "$between" -n wide --since monday >"$work/answer"
printf '%s\n' "8192 4096" "4 KiB changed since monday, exact" |
    diff - "$work/answer" || fail "two checkpoints in one answer"
wait "$proxy"
stop_tapdisk

# It gets a peer: with its history.
start_tapdisk disk "remus:role=primary,peer=tcp://127.0.0.1:1|aio:$work/disk.img"
wait_until replica_is disk '["state"]' solo
tap-ctl driver -n disk remus "changed wednesday" | grep -q '"exact": false'
