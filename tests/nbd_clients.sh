#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Stock clients find what the NBD frontend offers: exports by name, sizes and
# flags, extents, zeroes kept allocated or fast, cache, unfragmented reads, on a
# Unix socket, TCP and IPv6 at once; several connections are one disk, and a
# flush on one of them covers what was written on another, which lossy proves.
# over: san io
. "$(dirname "$0")/lib.sh"

need nbdcopy nbdinfo nbdsh qemu-img python3 cmp

# In the words of nbdsh, whose h is connected to $uri.
client() {
    nbdsh -u "$uri" "$@" >"$work/client.out" 2>&1 || {
        cat "$work/client.out"
        fail "client: $*"
    }
}

says() { # TEXT COMMAND...
    "${@:2}" >"$work/said" 2>&1 || { cat "$work/said"; fail "${*:2}"; }
    grep -Eq -- "$1" "$work/said" || {
        cat "$work/said"
        fail "\"$1\" is not said by ${*:2}"
    }
}

echo "- where it listens, all at once, and by which name"
listen=(--nbd tcp:127.0.0.1:0)
python3 -c 'import socket
socket.socket(socket.AF_INET6).bind(("::1", 0))' 2>"$work/out" &&
    listen+=(--nbd 'tcp:[::1]:0')
truncate -s 64M "$work/disk"
start_tapdisk disk "${listen[@]}" --nbd-export "guest disk" "aio:$work/disk"
"$BUILD/tap-ctl" status -n disk --json --run-dir "$run_dir" >"$work/status"
mapfile -t uris < <(sed -nE 's/.*"(nbd[^"]*guest%20disk[^"]*)".*/\1/p' \
    "$work/status")
[ ${#uris[@]} -eq $((1 + ${#listen[@]} / 2)) ] || fail "${uris[*]}"
for where in "${uris[@]}"; do
    [ "$(nbdinfo --size "$where")" -eq $((64 << 20)) ] || fail "$where"
done
says 'export="guest disk"' nbdinfo --list "$uri"
expect_failure 'nonsense' nbdinfo "nbd+unix:///nonsense?socket=$work/disk.sock"

echo "- what it can"
nbdinfo --json "$uri" >"$work/info"
python3 - "$work/info" <<'END'
import json, sys
export = json.load(open(sys.argv[1]))["exports"][0]
for flag in ("can_cache", "can_df", "can_fast_zero", "can_flush", "can_fua",
             "can_multi_conn", "can_trim", "can_zero"):
    assert export[flag], flag
assert not export["is_read_only"] and not export["is_rotational"]
assert "base:allocation" in export["contexts"], export
END

echo "- extents, and zeroes that keep their space or are made fast"
client -c '
h.pwrite(b"x" * (4 << 20), 0)
h.zero(1 << 20, 0)
h.zero(1 << 20, 1 << 20, nbd.CMD_FLAG_NO_HOLE)
h.zero(1 << 20, 2 << 20, nbd.CMD_FLAG_FAST_ZERO)
h.flush()
assert h.pread(4 << 20, 0) == bytes(3 << 20) + b"x" * (1 << 20)
h.cache(4 << 20, 0)
if h.get_structured_replies_negotiated():
    assert h.pread_structured(65536, 3 << 20, lambda *chunk: 0,
                              nbd.CMD_FLAG_DF) == b"x" * 65536'
kept=$(($(stat -c %b "$work/disk") / 2048)) # MiB
[[ $kept == [23] ]] ||
    fail "of 4 MiB, 1 and perhaps 2 of them unmapped, $kept are left"
nbdinfo --map --json "$uri" >"$work/map"
python3 - "$work/map" <<'END'
import json, sys
extents = json.load(open(sys.argv[1]))
def of(offset):
    return next(e["type"] for e in extents
                if e["offset"] <= offset < e["offset"] + e["length"])
assert of(0) & 3 == 3, "a hole where zeroes might be unmapped"
assert of(1 << 20) & 2 == 2, "zeroes are not told to be zeroes"
assert of(3 << 20) == 0, "data are told to be something else"
assert of(32 << 20) & 3 == 3, "what was never written is a hole"
assert sum(e["length"] for e in extents) == 64 << 20
END
truncate -s 64M "$work/same"
nbdcopy "$uri" "$work/same"
qemu-img compare -q -f raw -F raw "$work/same" "$uri"
nbdcopy --allocated "$work/same" "$uri"
stop_tapdisk
cmp "$work/disk" "$work/same"

echo "- read-only, to all that changes"
start_tapdisk reader --read-only "aio:$work/disk"
says '"is_read_only": true' nbdinfo --json "$uri"
client -c '
import errno
h.set_strict_mode(0)
for call in (lambda: h.pwrite(bytes(512), 0), lambda: h.zero(512, 0),
             lambda: h.trim(512, 0)):
    try:
        call()
        raise SystemExit("it was changed")
    except nbd.Error as error:
        assert error.errnum == errno.EPERM, error
assert h.pread(4096, 3 << 20) == b"x" * 4096'
stop_tapdisk
cmp "$work/disk" "$work/same"

# What one connection has flushed survives, whichever wrote it; what nobody
# flushed does not, or lossy would prove nothing.  A write with FUA is flushed in
# a round of its own: it takes all that was written before it along.
after_a_kill() { # PYTHON: with a, b, c connected
    truncate -s 0 "$work/multi"
    truncate -s 8M "$work/multi"
    start_tapdisk multi "lossy:|aio:$work/multi"
    python3 - "$uri" "$1" <<'END'
import nbd, sys
a, b, c = handles = [nbd.NBD() for i in range(3)]
for handle in handles:
    handle.connect_uri(sys.argv[1])
    assert handle.can_multi_conn()
exec(sys.argv[2])
END
    kill_tapdisk
}

holds() { # OFFSET BYTE
    cmp -s <(tail -c "+$(($1 + 1))" "$work/multi" | head -c 65536) \
        <(head -c 65536 /dev/zero | tr '\0' "$2") ||
        fail "no 64 KiB of $2 at $1"
}

echo "- several connections are one disk: a flush on one covers the others"
after_a_kill '
a.pwrite(b"a" * 65536, 0)
c.pwrite(b"c" * 65536, 1 << 20)
assert b.pread(65536, 0) == b"a" * 65536, "what another connection wrote"
b.flush()
a.pwrite(b"u" * 65536, 2 << 20)'
holds 0 a
holds 1048576 c
holds 2097152 '\0'
after_a_kill '
b.pwrite(b"f" * 65536, 0, nbd.CMD_FLAG_FUA)
a.pwrite(b"u" * 65536, 2 << 20)'
holds 0 f
holds 2097152 '\0'
