#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# make EXTRA_DRIVERS="...": drivers that stand outside of the tree and know only
# the old contract are compiled, linked in, and opened by their names; one with
# a built-in's name replaces it; the flags of the command line reach them.
# time limit: 300
. "$(dirname "$0")/lib.sh"

need make nbdcopy qemu-io nbdinfo python3 cmp

# In a build directory of our own.
extra_make() { # ARGUMENT...
    env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -C "$TOP" \
        --no-print-directory -s -j2 B="$work/build" "$work/build/tapdisk" "$@"
}

cp "$TOP"/tests/extra/*.c "$work/"
mv "$work/old_raw.c" "$work/file-of-another-name.c"

echo "compiled and linked in"
extra_make CFLAGS=-O0 \
    CPPFLAGS="-DPATTERN_BYTE=0x77 -DOLD_RAW_SLOTS=4" \
    LDFLAGS="-Wl,-Map=$work/map" EXTRA_DRIVERS="$work/file-of-another-name.c \
    $work/pattern.c $work/old_invert.c"
[ -s "$work/map" ] || fail "LDFLAGS did not reach the linker"
BUILD=$work/build
"$BUILD/tapdisk" --help >"$work/help"
grep -q '^  old_raw:  *from file-of-another-name.c' "$work/help"
grep -q '^  null:  *from pattern.c' "$work/help"
[ "$(grep -c '^  null:' "$work/help")" -eq 1 ] ||
    fail "the replaced driver is still listed"

echo "a driver of the old style, with four slots only"
random_file "$work/original" 32M
truncate -s 32M "$work/disk"
start_tapdisk raw "old_raw:$work/disk"
nbdcopy "$work/original" "$uri"
nbdcopy "$uri" "$work/copy"
cmp "$work/original" "$work/copy"
stop_tapdisk
cmp "$work/original" "$work/disk"
grep -q "opening $work/disk" "$work/raw.log" || fail "DPRINTF is lost"

echo "a filter of the old style, with its own callbacks"
start_tapdisk invert "old_invert:|old_raw:$work/disk"
nbdcopy "$work/original" "$uri"
nbdcopy "$uri" "$work/copy"
cmp "$work/original" "$work/copy"
qemu-io -f raw -c 'write -P 0x0f 1M 4M' -c 'read -P 0x0f 1M 4M' "$uri" \
    >"$work/qemu-io"
! grep -i fail "$work/qemu-io" || fail "qemu-io"
stop_tapdisk
python3 - "$work/original" "$work/disk" <<'END' || fail "it is not inverted"
import sys
inverted = bytes(range(255, -1, -1))
original, disk = (open(name, "rb").read() for name in sys.argv[1:])
original = original[:1 << 20] + b"\x0f" * (4 << 20) + original[5 << 20:]
sys.exit(original.translate(inverted) != disk)
END

echo "a filter of the old style over a driver that is built in"
start_tapdisk over "old_invert:|aio:$work/disk"
qemu-io -f raw -c 'read -P 0x0f 1M 4M' "$uri" >"$work/qemu-io"
! grep -i fail "$work/qemu-io" || fail "qemu-io"
stop_tapdisk

echo "one that replaces a driver that is built in"
start_tapdisk null null:1G
[ "$(nbdinfo --size "$uri")" -eq $((1 << 20)) ] || fail "the size is null's"
qemu-io -r -f raw -c 'read -P 0x77 0 1M' "$uri" >"$work/qemu-io"
! grep -i fail "$work/qemu-io" || fail "it reads as something else"
stop_tapdisk
grep -q 'sectors were read' "$work/null.log" || fail "td_close did not run"

echo "the table follows EXTRA_DRIVERS and the flags"
extra_make CFLAGS=-O0 CPPFLAGS=-DPATTERN_BYTE=0x11 \
    EXTRA_DRIVERS="$work/pattern.c"
expect_failure "no driver 'old_raw'" "$BUILD/tapdisk" --name x \
    --run-dir "$run_dir" "old_raw:$work/disk"
start_tapdisk null null:1G
qemu-io -r -f raw -c 'read -P 0x11 0 1M' "$uri" >"$work/qemu-io"
! grep -i fail "$work/qemu-io" || fail "CPPFLAGS did not reach it"
stop_tapdisk
extra_make CFLAGS=-O0
start_tapdisk null null:1G
[ "$(nbdinfo --size "$uri")" -eq $((1 << 30)) ] || fail "null is not back"
stop_tapdisk

echo "mistakes are told"
expect_failure "there is no file $work/missing.c" extra_make CFLAGS=-O0 \
    EXTRA_DRIVERS="$work/missing.c"
echo "int nothing_here;" >"$work/nothing.c"
expect_failure "no struct tap_disk tapdisk_<name> is defined in" extra_make \
    CFLAGS=-O0 EXTRA_DRIVERS="$work/nothing.c"
