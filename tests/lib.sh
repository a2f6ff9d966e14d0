# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# lib.sh - what the stories share.  A story starts with
#
#     #!/bin/bash
#     # SPDX-License-Identifier: BSD-3-Clause
#     # What it shows, in a sentence or two.
#     # over: san io          (see tests/run)
#     . "$(dirname "$0")/lib.sh"
#
# and has from here: $work, a directory of its own that goes away with it;
# start_tapdisk and stop_tapdisk; skip, fail, need, expect_failure, wait_until,
# pause, at_end.
# It can be run alone: BUILD=build TAPDISK_IO=libaio tests/<story>.sh
#
# L1  A story leaves nothing behind, whatever ends it: processes are ended by
#     their pid, $work is removed.
# L2  A story that ends well while one of its daemons had a sanitizer's report
#     or died by a signal fails.
# L3  Nothing waits by the clock: wait_until asks again until a condition
#     holds, and gives up after WAIT_S seconds.

set -Eeuo pipefail
export LC_ALL=C
WAIT_S=${WAIT_S:-30}
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=${BUILD:-build}
[[ $BUILD == /* ]] || BUILD=$TOP/$BUILD
TAPDISK_IO=${TAPDISK_IO:-}
# The distribution's programs first: its python3 has libnbd's module.
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH

work=$(mktemp -d "${TMPDIR:-/tmp}/tapdisk-test.XXXXXX")
run_dir=$work/run # of the daemons: --run-dir, for tap-ctl too
mkdir -m 700 "$run_dir"
pids=()           # of what runs in the background
endings=()        # see at_end
story_skipped=

# Nothing is ever written there.  It has a name no longer than it takes to open
# it, and no process is behind it: to be a sleep it must leave $! alone, since
# bash 5.2 may wait forever for a process substitution that ended meanwhile.
mkfifo "$work/quiet"
exec {quiet}<>"$work/quiet"
rm "$work/quiet"

pause() { # SECONDS: without a process
    read -rt "$1" <&"$quiet" || true
}

# at_end COMMAND...: run it when the story ends, after its processes; the last
# first.
at_end() {
    endings=("$(printf '%q ' "$@")" "${endings[@]}")
}

fail() {
    echo "failed: $*" >&2
    exit 1
}

skip() {
    story_skipped=1
    echo "$*"
    exit 77
}

# need PROGRAM...: skip without them.
need() {
    local program
    for program; do
        command -v "$program" >/dev/null || skip "$program is missing"
    done
}

# wait_until COMMAND...: until it succeeds.
wait_until() {
    local end=$((SECONDS + WAIT_S))
    until "$@"; do
        [ $SECONDS -lt $end ] || fail "gave up after $WAIT_S s: $*"
        pause 0.02
    done
}

# expect_failure TEXT COMMAND...: it fails, and says TEXT (a regular
# expression) on stdout or stderr.  Its output is left in $work/failure.
expect_failure() {
    local text=$1
    shift
    if "$@" >"$work/failure" 2>&1 </dev/null; then
        cat "$work/failure" >&2
        fail "should have failed: $*"
    fi
    grep -Eq -- "$text" "$work/failure" || {
        cat "$work/failure" >&2
        fail "should have said \"$text\": $*"
    }
}

ended() { # PID: it is gone, or only waits for us to hear its status
    local state
    state=$(sed -n 's/^State:[^A-Z]*\(.\).*/\1/p' "/proc/$1/status" \
        2>/dev/null) || true
    [ -z "$state" ] || [ "$state" = Z ]
}

# is_listening PATH: somebody listens on the Unix socket.
is_listening() {
    grep -Eq "^[^ ]+ [^ ]+ [^ ]+ 00010000 .* $1\$" /proc/net/unix
}

# tcp_port PID: the TCP port the process listens on (give the daemon port 0).
tcp_port() {
    local fd link
    for fd in "/proc/$1/fd/"*; do
        link=$(readlink "$fd" 2>/dev/null) || continue
        [[ $link == socket:* ]] || continue
        link=${link#socket:[}
        awk -v inode="${link%]}" '$4 == "0A" && $10 == inode {
            sub(/.*:/, "", $2); print $2 }' \
            "/proc/$1/net/tcp" "/proc/$1/net/tcp6"
    done | sort -u | head -n 1 | { read -r link && echo $((16#$link)); }
}

# free_port: a TCP port of this host that nobody has now.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])'
}

# rdma_address: an address of this host whose RDMA device answers when it is
# called there; fails if there is none.
rdma_address() {
    local device address port server
    for device in $(rdma link show 2>/dev/null |
        sed -n 's/.* state ACTIVE .* netdev \([^ ]*\).*/\1/p'); do
        address=$(ip -4 -o address show dev "$device" |
            awk '{ sub("/.*", "", $4); print $4; exit }')
        [ -n "$address" ] || continue
        port=$(free_port)
        timeout 10 rping -s -a "$address" -p "$port" -C 1 >"$work/rping" 2>&1 &
        server=$!
        pids+=("$server")
        for _ in {1..50}; do
            if timeout 5 rping -c -a "$address" -p "$port" -C 1 \
                >>"$work/rping" 2>&1; then
                wait "$server" || true
                echo "$address"
                return 0
            fi
            ended "$server" && break
            pause 0.1 # it may not listen yet
        done
        kill "$server" 2>/dev/null || true
    done
    return 1
}

# replica_member MEMBER: of a disk's remus driver, out of what "tap-ctl stats"
# says; MEMBER is Python, as '["link"]["state"]'.
replica_member() {
    python3 -c '
import json, sys
disk = json.load(sys.stdin)
image = next(i for i in disk["images"] if i["type"] == "remus")["driver"]
value = eval("image" + sys.argv[1])
print(value if isinstance(value, str) else json.dumps(value))' "$1"
}

# replica_status NAME MEMBER
replica_status() {
    "$BUILD/tap-ctl" stats --run-dir "$run_dir" -n "$1" | replica_member "$2"
}

# replica_is NAME MEMBER VALUE
replica_is() {
    [ "$(replica_status "$1" "$2")" = "$3" ]
}

uri_of() { # NAME
    echo "nbd+unix:///?socket=$work/$1.sock"
}

# start_tapdisk NAME [OPTION...] IMAGE: a daemon with its NBD socket at
# $work/NAME.sock, its log in $work/NAME.log.  Returns when it can be
# connected to.  Sets $pid and $uri.
start_tapdisk() {
    local name=$1
    shift
    "$BUILD/tapdisk" --name "$name" --run-dir "$run_dir" \
        ${TAPDISK_IO:+--io "$TAPDISK_IO"} --nbd "unix:$work/$name.sock" \
        "$@" >"$work/$name.log" 2>&1 </dev/null &
    pid=$!
    pids+=("$pid")
    # shellcheck disable=SC2034 # for the story
    uri=$(uri_of "$name")
    wait_until ready_or_ended "$work/$name.sock" "$pid"
    if ! is_listening "$work/$name.sock"; then
        cat "$work/$name.log" >&2
        if [ "$TAPDISK_IO" = io_uring ] &&
            grep -q io_uring "$work/$name.log"; then
            skip "no io_uring here: $(grep -m 1 io_uring "$work/$name.log")"
        fi
        fail "tapdisk $name did not start"
    fi
}

ready_or_ended() { # SOCKET PID
    is_listening "$1" || ended "$2"
}

# stop_tapdisk [PID]: by SIGTERM; it must end with status 0.
stop_tapdisk() {
    local which=${1:-$pid} status=0
    kill "$which"
    wait_until ended "$which"
    wait "$which" || status=$?
    [ "$status" -eq 0 ] || fail "tapdisk ended with status $status"
}

# kill_tapdisk [PID]: as a crash would.
kill_tapdisk() {
    kill -KILL "${1:-$pid}"
    wait "${1:-$pid}" 2>/dev/null || true
}

# random_file PATH SIZE: SIZE as head -c takes it (64M).
random_file() {
    head -c "$2" /dev/urandom >"$1"
}

end_story() {
    local status=$? which
    trap - ERR
    trap '' INT TERM
    for which in "${pids[@]}"; do
        kill "$which" 2>/dev/null || continue
        for _ in {1..250}; do
            ended "$which" && break
            pause 0.02
        done
        ended "$which" || kill -KILL "$which" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    for which in "${endings[@]}"; do
        eval "$which" || true
    done
    if grep -lsE 'ERROR: (Address|Leak)Sanitizer|runtime error:' \
        "$work"/*.log; then
        grep -hsE -A 40 'ERROR: (Address|Leak)Sanitizer|runtime error:' \
            "$work"/*.log
        [ "$status" -ne 0 ] || status=1
    elif [ "$status" -ne 0 ] && [ -z "$story_skipped" ]; then
        tail -n 40 -v "$work"/*.log 2>/dev/null || true
    fi
    rm -rf "$work"
    exit "$status"
}

trap end_story EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'echo "failed: line $LINENO: $BASH_COMMAND" >&2' ERR
