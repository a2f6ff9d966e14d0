#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What a pair tells, in words and in JSON: the state, why it is not the best
# one, what a failover now would lose; that the network is insecure.  Each
# member stands in docs/control.md.  A peer that speaks another version
# of the protocol is named.
#
# over: san
# time limit: 300
. "$(dirname "$0")/two_hosts.sh"

words() { # NAME TEXT: of tap-ctl status
    tap-ctl status -n "$1" >"$work/words"
    grep -Eq -- "$2" "$work/words"
}

says() { # NAME TEXT
    words "$@" || {
        cat "$work/words"
        fail "status of $1 does not say: $2"
    }
}

new_disks 8M
image[b]="fault:op=write,from=6M,hang|${image[b]}"
random_file "$work/a.img" 8M

echo "a primary without a peer"
host a primary
says a 'a is primary, alone; serves 8 MiB'
says a 'state +solo for [0-9]+ s, not in sync'
says a 'why +new: no peer yet'

echo "a copy under way, which hangs"
host b secondary
wait_until holds b
wait_until words a '  resync +\[#*\.*\] [0-9]+ %, .* of 8 MiB, .*/s, .* left'
says a 'failover +not now: the peer cannot take over before its copy'
says b 'state +target'
says b 'failover +not now: .*(empty|unfinished)'
fault b clear
fault b release
wait_until in_sync a

echo "in sync"
says a 'a is primary, in sync with its peer'
says a 'failover +now would lose: nothing'
says b 'b is secondary, in sync with its peer; serves nobody'
told a '["failover"]["possible"]' true
told a '["failover"]["loses_bytes"]' '^0$'
told a '["failover"]["loses_ms"]' '^0$'
replica_is a '["why"]' ''
replica_is a '["insecure_network"]' false
words a 'insecure' && fail "loopback is not insecure"

echo "each member stands in the page"
tap-ctl status --json -n a >"$work/status"
python3 - "$TOP/docs/control.md" "$work/status" <<'PYTHON'
import json, re, sys
page = open(sys.argv[1]).read()
disk = json.load(open(sys.argv[2]))
disk = disk[0] if isinstance(disk, list) else disk
begin = page.index("| member of `replica` |")
table = page[begin:page.index("\n\n", begin)]
rows = set()
for line in table.splitlines()[2:]:
    rows.update(re.findall(r"`(\w+)`", line.split("|")[1]))
members = set(disk["replica"])
if rows != members:
    sys.exit("only in the page: %s, only in the status: %s" % (
        sorted(rows - members), sorted(members - rows)))
for member in disk["replica"]["failover"]:
    if "`%s`" % member not in table:
        sys.exit("failover.%s is not in the page" % member)
PYTHON

echo "alone, with writes that a failover would lose"
kill_host b
wait_until replica_is a '["state"]' solo
says a 'why +the peer is lost: the peer did not come back within 2000 ms'
random_file "$work/data" 64K
nbdcopy --flush "$work/data" "$(uri_of a)"
told a '["failover"]["loses_bytes"]' '^65536$'
lost() { [ "$(replica_status a '["failover"]["loses_ms"]')" -ge 100 ]; }
wait_until lost
says a 'failover +now would lose: what was written in the .* 65536 bytes'
stop_host a

echo "an insecure network is told"
host b secondary --insecure-network
says b 'network +insecure: whoever reaches the address'
replica_is b '["insecure_network"]' true
stop_host b

# strange_peer HOW: one that answers so, at b's port
strange_peer() {
    "$TOP/tests/strange_peer.py" "${port[b]}" "$1" &
    peer_pid=$!
    pids+=("$peer_pid")
}

end_peer() {
    kill "$peer_pid"
    wait "$peer_pid" 2>/dev/null || true
}

echo "a peer of the next version"
cp "$work/a.img" "$work/before"
strange_peer newer
host a primary
wait_until told a '["why"]' \
    'speaks protocol versions 2 to 2, this side 1 to 1: upgrade tapdisk on the'
says a 'why +the peer speaks protocol versions 2 to 2'
replica_is a '["state"]' solo
end_peer

echo "a peer that is none, one that says nothing, and nobody"
strange_peer garbage
wait_until words a ' path +.*does not speak tapdisk.s replication protocol'
end_peer
strange_peer silence
wait_until words a ' path +.*took the connection and did not end its hello'
end_peer
wait_until words a ' path +.*Connection refused'
replica_is a '["state"]' solo
stop_host a

# strange HOW TEXT: on a host that has not spoken with another before
strange() {
    echo "a peer that is strange: $1"
    strange_peer "$1"
    host a primary
    wait_until grep -Eq "$2" "$work/a.log"
    wait_until told a '["state"]' 'solo|resync'
    end_peer
    stop_host a
}
strange sectors 'one has sectors of 512 bytes and the other of 4096: give both'
strange disk 'the two are replicas of different disks: check the addresses'
strange liar 'the peer acknowledged what it never got'
cmp "$work/a.img" "$work/before"
cmp "$work/a.img" "$work/before"
