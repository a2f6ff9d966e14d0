#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The example systemd unit does as a unit: its command line, with the variables of
# its environment file, serves a disk and tells the manager so; its reload opens
# the log anew; its stop leaves nothing; its time limits fit together.
# over: san
. "$(dirname "$0")/lib.sh"

need nbdinfo python3

unit=$TOP/tools/tapdisk@.service

value() { # KEY: of the unit, with its instance's name
    sed -n "s/^$1=//p" "$unit" | sed 's/%i/vm1/g'
}

# The words of a command line, as systemd(1) would make them: $NAME falls into
# words, ${NAME} is one.
words_of() { # COMMAND-LINE
    python3 - "$work/vm1.conf" "$1" "$BUILD" <<'END'
import re, sys
variables = dict(line.strip().split("=", 1) for line in open(sys.argv[1]))
for word in sys.argv[2].replace("/usr/local/bin", sys.argv[3]).split():
    if word.startswith("${"):
        print(variables[word[2:-1]])
    elif word.startswith("$"):
        print("\n".join(variables[word[1:]].split()))
    else:
        print(word)
END
}

# The example of the unit's head is its environment file.
sed -n 's/^#   //p' "$unit" | sed -e "s|/srv/|$work/|" -e "s|/run/|$work/|" \
    >"$work/vm1.conf"
sed -i "s|^OPTIONS=.*|& --log file:$work/log|" "$work/vm1.conf"
[ "$(wc -l <"$work/vm1.conf")" -eq 2 ] || fail "$(cat "$work/vm1.conf")"
truncate -s 8M "$work/vm1.img"

[ "$(value EnvironmentFile)" = /etc/tapdisk/vm1.conf ] || fail "EnvironmentFile"
[ "$(value Type)" = notify ] || fail "Type"
[ "$(value RuntimeDirectory)" = tapdisk ] || fail "RuntimeDirectory"
[ "$(value RuntimeDirectoryMode)" = 0700 ] || fail "RuntimeDirectoryMode"
stop_limit=$(value ExecStart | grep -o 'stop-timeout [0-9]*' | cut -d ' ' -f 2)
[ "$(value TimeoutStopSec)" -gt "$stop_limit" ] ||
    fail "the manager kills before the daemon has said what was not done"

python3 - "$work/notify" >"$work/notified" <<'END' &
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
for _ in range(2):
    print(s.recv(99).decode(), flush=True)
END
pids+=("$!")
wait_until test -S "$work/notify"
mapfile -t words < <(words_of "$(value ExecStart)")
NOTIFY_SOCKET=$work/notify TAPDISK_RUN_DIR=$run_dir "${words[@]}" \
    >"$work/vm1.log" 2>&1 </dev/null &
pid=$!
pids+=("$pid")
wait_until grep -qs READY=1 "$work/notified"
[ "$(nbdinfo --size "nbd+unix:///vm1?socket=$work/vm1.sock")" -eq $((8 << 20)) ] ||
    fail "vm1 is not served"
mv "$work/log" "$work/log.1"
export MAINPID=$pid
eval "$(value ExecReload)"
wait_until grep -qs 'log opened again' "$work/log"
stop_tapdisk
wait_until grep -qs STOPPING=1 "$work/notified"
[ -z "$(ls "$run_dir")" ] || fail "left behind: $(ls "$run_dir")"

# A wrong command line is not tried again and again.
status=0
sed -i 's|^OPTIONS=.*|OPTIONS=--nonsense|' "$work/vm1.conf"
mapfile -t words < <(words_of "$(value ExecStart)")
TAPDISK_RUN_DIR=$run_dir "${words[@]}" >"$work/out" 2>&1 || status=$?
[ "$status" = "$(value RestartPreventExitStatus)" ] || fail "status $status"

if command -v systemd-analyze >/dev/null; then
    sed "s|/usr/local/bin|$BUILD|" "$unit" >"$work/tapdisk@vm1.service"
    systemd-analyze verify --man=no "$work/tapdisk@vm1.service" \
        >"$work/verified" 2>&1 || { cat "$work/verified"; fail "verify"; }
fi
