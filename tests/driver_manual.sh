#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# docs/drivers.md is true: the drivers that it prints are cut out of it, built
# with EXTRA_DRIVERS without a warning, and do what it says, by themselves and
# tortured as it says.
# time limit: 300
. "$(dirname "$0")/lib.sh"

need make nbdcopy qemu-io python3 cmp

# The code block that is headed "```c NAME".
cut_out() { # NAME
    awk -v head="\`\`\`c $1" '$0 == head { on = 1; next }
        /^```/ { on = 0 } on' "$TOP/docs/drivers.md" >"$work/$1"
    [ -s "$work/$1" ] || fail "docs/drivers.md has no $1"
}

does() { # COMMAND...: of qemu-io, none of which fails
    local words=()
    for command; do words+=(-c "$command"); done
    qemu-io -f raw "${words[@]}" "$uri" >"$work/qemu-io" 2>&1 ||
        { cat "$work/qemu-io"; fail "$*"; }
    ! grep -Ei 'fail|error' "$work/qemu-io" || fail "$*"
}

tap_ctl() {
    "$BUILD/tap-ctl" "$@" --run-dir "$run_dir"
}

blocks() { # how many the scratch: has of its own
    tap_ctl stats -n "$1" | python3 -c '
import json, sys
print(next(i["driver"]["blocks"] for i in json.load(sys.stdin)["images"]
           if i["type"] == "scratch"))'
}

cut_out scratch.c
cut_out mask.c
echo "they are built as the page says"
env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -C "$TOP" \
    --no-print-directory -s -j2 B="$work/build" "$work/build/tapdisk" \
    "$work/build/tap-ctl" CFLAGS="-O1 -Wall -Wextra" LDLIBS=-lcmocka \
    EXTRA_DRIVERS="tests/torture.c tests/witness.c $work/scratch.c \
        $work/mask.c" >"$work/make.log" 2>&1 ||
    { cat "$work/make.log"; fail "they are not built"; }
! grep -E '(scratch|mask)\.c.*warning' "$work/make.log" || fail "warnings"
BUILD=$work/build
"$BUILD/tapdisk" --help >"$work/help"
grep -q '^  scratch:  *from scratch.c' "$work/help"

random_file "$work/base" 8M
cp "$work/base" "$work/as-it-was"

echo "scratch: the image below stays as it was"
start_tapdisk scratch "scratch:$work/base"
nbdcopy "$uri" "$work/copy"
cmp "$work/base" "$work/copy"
[ "$(blocks scratch)" = 0 ] || fail "it has blocks before a write"
does 'write -P 0x11 4k 8k' 'write -P 0x22 1M 64k' 'write -z 2M 4k' flush
[ "$(blocks scratch)" = 19 ] || fail "it has $(blocks scratch) blocks, not 19"
does 'read -P 0x11 4k 8k' 'read -P 0x22 1M 64k' 'read -P 0 2M 4k'
nbdcopy "$uri" "$work/copy" # requests of own and others' blocks
python3 - "$work/base" "$work/copy" <<'END' || fail "it reads as another"
import sys
want, got = (bytearray(open(name, "rb").read()) for name in sys.argv[1:])
for begin, length, byte in ((4096, 8192, 0x11), (1 << 20, 65536, 0x22),
                            (2 << 20, 4096, 0)):
    want[begin:begin + length] = bytes([byte]) * length
sys.exit(want != got)
END
expect_failure '"remember" is no command: there is forget' \
    tap_ctl driver -n scratch scratch remember
tap_ctl driver -n scratch scratch forget >"$work/out"
nbdcopy "$uri" "$work/copy"
cmp "$work/base" "$work/copy" || fail "it did not forget"
does 'write -P 0x33 0 4k'
stop_tapdisk
cmp "$work/as-it-was" "$work/base" || fail "the image below was written to"
start_tapdisk scratch "scratch:$work/base"
nbdcopy "$uri" "$work/copy"
cmp "$work/base" "$work/copy" || fail "it outlived its close"
stop_tapdisk

echo "what cannot be opened is told"
truncate -s 512 "$work/small"
expect_failure "scratch:$work/small: its size is not a multiple of 4096" \
    "$BUILD/tapdisk" --name x --run-dir "$run_dir" "scratch:$work/small"
expect_failure "scratch:$work/none: it cannot be opened: No such file" \
    "$BUILD/tapdisk" --name x --run-dir "$run_dir" "scratch:$work/none"
expect_failure "mask:100: name a byte in hexadecimal" \
    "$BUILD/tapdisk" --name x --run-dir "$run_dir" "mask:100|null:1M"

echo "mask: over a file, and what the file then holds"
truncate -s 8M "$work/file"
start_tapdisk mask "mask:5a|aio:$work/file"
nbdcopy "$work/base" "$uri"
does 'write -z 1M 64k' 'discard 2M 64k' flush
does 'read -P 0 1M 64k'
does 'write -P 0 2M 64k'
stop_tapdisk
python3 - "$work/base" "$work/file" <<'END' || fail "it is not turned over"
import sys
want, got = (bytearray(open(name, "rb").read()) for name in sys.argv[1:])
for begin in (1 << 20, 2 << 20):
    want[begin:begin + 65536] = bytes(65536)
sys.exit(want.translate(bytes(i ^ 0x5a for i in range(256))) != got)
END

echo "both, tortured from both sides"
top="torture:seed=3,busy=0.05|witness:|mask:5a"
start_tapdisk both "$top|torture:seed=4,busy=0.05|witness:|scratch:$work/base"
random_file "$work/new" 8M
nbdcopy "$work/new" "$uri"
nbdcopy "$uri" "$work/copy"
cmp "$work/new" "$work/copy" || fail "not what was written"
stop_tapdisk
! grep ' witness: ' "$work/both.log" || fail "the witness complains"
cmp "$work/as-it-was" "$work/base" || fail "the image below was written to"

echo "errors from below reach the guest, and nothing is lost with them"
start_tapdisk errors "mask:5a|fault:|aio:$work/file"
tap_ctl driver -n errors fault "add op=read,nth=1,count=1,error=EIO"
qemu-io -r -f raw -c 'read 0 4k' "$uri" >"$work/qemu-io" 2>&1 || true
grep -q 'Input/output error' "$work/qemu-io" || fail "no error was seen"
nbdcopy "$uri" "$work/copy"
stop_tapdisk
