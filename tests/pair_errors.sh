#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Disks that fail, of either host: EIO and ENOSPC of a write, a flush that
# fails, a disk that is slow and one that hangs.  An error of the secondary's is
# no error of the guest's and no silent success: it costs the copy its place,
# and both hosts tell whose disk it was.  The primary's own is the guest's.
#
# over: san
# time limit: 500
. "$(dirname "$0")/two_hosts.sh"

image[a]="fault:|${image[a]}"
image[b]="fault:|${image[b]}"

# guest OPERATION BYTE OFFSET: prints ok, or the name of the error
guest() {
    python3 - "$(uri_of a)" "$@" <<'PYTHON'
import errno, sys, nbd
uri, operation, byte, offset = sys.argv[1:]
handle = nbd.NBD()
handle.connect_uri(uri)
try:
    if operation == "write":
        handle.pwrite(byte.encode() * 4096, int(offset))
    else:
        handle.flush()
    print("ok")
except nbd.Error as error:
    print(errno.errorcode.get(error.errnum, error.string))
PYTHON
}

answers() { # WANTED OPERATION...
    local answer
    answer=$(guest "${@:2}")
    [ "$answer" = "$1" ] || fail "${*:2}: $answer, not $1"
}

declare -A seen=([a]=0 [b]=0) # lines of the log that count no more

logged() { # NAME TEXT
    tail -n +$((seen[$1] + 1)) "$work/$1.log" | grep -E "$2" >/dev/null
}

scene() { # TITLE: what was logged before counts no more
    echo "$1"
    seen=([a]=$(wc -l <"$work/a.log") [b]=$(wc -l <"$work/b.log"))
}

byte_of() { # NAME OFFSET: in hexadecimal
    od -An -tx1 -j "$2" -N 1 "$work/$1.img"
}

same_at() { # OFFSET
    [ "$(byte_of a "$1")" = "$(byte_of b "$1")" ]
}

new_disks 8M
host b secondary
host a primary --request-timeout 3
wait_until in_sync a

for error in EIO:Input/output ENOSPC:'No space left'; do
    name=${error%%:*} text=${error#*:}
    scene "$name of the secondary"
    fault b "add op=write,error=$name"
    answers ok write "${name::1}" 8192
    # told apart, in the logs and in the status
    wait_until logged b "copy of the disk on this host failed: .* $text"
    wait_until logged a "the peer's disk failed a write .*: $text"
    ! logged a "failed on this host" || fail "a takes it for its own"
    wait_until replica_is b '["consistent"]' false
    wait_until told b '["why"]' 'image failed|not consistent|copied to'
    wait_until told a '["why"]' "the peer's disk failed a .*: $text"
    replica_is a '["in_sync"]' false
    told a '["failover"]["loses"]' '.'
    answers ok write "${name::1}" 12288 # the guest goes on
    answers ok flush - -
    expect_failure 'primary is alive|not consistent' tap-ctl promote -n b
    fault b clear
    tap-ctl resync -n a || true
    wait_until in_sync a
    same_at 8192 || fail "b lacks the write"

    scene "$name of the primary"
    fault a "add op=write,from=16384,to=20480,error=$name"
    answers "$name" write x 16384
    logged a 'write of 4096 bytes at offset 16384 failed on this host'
    answers ok write y 20480
    fault a clear
    # What the guest may read is the same on both: nothing of the failed one.
    wait_until in_sync a
    wait_until same_at 16384
done

scene "a flush of the secondary fails"
fault b 'add op=flush,error=EIO,count=1'
answers ok write f 24576
answers ok flush - -
wait_until logged b 'not consistent from now on'
wait_until logged a "the peer's disk failed a flush"
wait_until in_sync a # copied anew
stop_host b
wait_until replica_is a '["state"]' solo
host b secondary
wait_until in_sync a

scene "a slow disk of the secondary slows the guest, and nothing grows"
fault b 'add op=write,delay=20ms'
rss() { # NAME: its greatest memory so far, in KiB
    local which=pid_$1
    sed -n 's/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p' "/proc/${!which}/status"
}
rm -f "$work/big" && random_file "$work/big" 4M
nbdcopy --requests=64 --connections=1 --request-size=65536 "$work/big" \
    "$(uri_of a)"
before=$(rss a),$(rss b)
for _ in 1 2 3; do
    nbdcopy --requests=64 --connections=4 --request-size=65536 "$work/big" \
        "$(uri_of a)"
done
after=$(rss a),$(rss b)
for i in 1 2; do
    grown=$(($(cut -d, -f $i <<<"$after") - $(cut -d, -f $i <<<"$before")))
    [ $grown -lt 16384 ] || fail "memory grew by $grown KiB (host $i)"
done
in_sync a || fail "a slow disk cost the pair its sync"
fault b clear
cmp -n $((4 << 20)) "$work/big" "$work/b.img"

scene "the primary's disk hangs: the guest is told, the peer is not blamed"
fault a 'add op=write,hang,count=1'
answers EIO write h 28672
holds a
logged a 'write of 4096 bytes at offset 28672 is past its time limit of 3 s'
told a '["state"]' paired
fault a clear
fault a release
wait_until in_sync a
wait_until same_at 28672
stop_host a
stop_host b
cmp "$work/a.img" "$work/b.img"

scene "the secondary's disk hangs: it is given up, and taken back"
remus() { # NAME ROLE
    echo "remus:role=$2,listen=tcp://127.0.0.1:${port[$1]},peer=tcp://127.0.0.1:${port[${other[$1]}]},meta=$work/$1.img.meta,ping-ms=50,dead-ms=2000,grace-ms=1000,connect-ms=50,retry-ms=100,ack-limit-ms=500|${image[$1]}"
}
seen=([a]=0 [b]=0) # logs begin anew
# shellcheck disable=SC2034 # stop_host reads them
start_tapdisk b "$(remus b secondary)" && pid_b=$pid
# shellcheck disable=SC2034
start_tapdisk a "$(remus a primary)" && pid_a=$pid
wait_until in_sync a
fault b 'add op=write,hang'
answers ok write g 32768 # after the limit, alone
wait_until told a '["why"]' "its disk hangs|still on their way to its disk"
logged a 'the peer answers but has not finished a write for .*: its disk hangs'
replica_is a '["in_sync"]' false
answers ok write g 36864
fault b clear
fault b release
wait_until in_sync a
stop_host a
stop_host b
cmp "$work/a.img" "$work/b.img"
