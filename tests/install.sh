#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# `make install` below DESTDIR and PREFIX leaves programs that run from there,
# manuals that can be read, and nothing outside.
. "$(dirname "$0")/lib.sh"

need nbdcopy cmp mandoc

dest=$work/dest
umask 077 # what is installed can be read all the same
${MAKE:-make} -C "$TOP" --no-print-directory install SAN= \
    DESTDIR="$dest" PREFIX=/opt/td >"$work/install.out" ||
    { cat "$work/install.out"; fail "make install"; }
umask 022
[ "$(cd "$dest" && find . -maxdepth 2 | sort | xargs)" = ". ./opt ./opt/td" ] ||
    fail "installed outside the prefix: $(ls "$dest" "$dest/opt")"

for program in tapdisk tap-ctl; do
    [ "$(stat -c %a "$dest/opt/td/bin/$program")" = 755 ] ||
        fail "the mode of $program"
done
for manual in "$TOP"/docs/*.[1-8]; do
    page=${manual##*/}
    page=$dest/opt/td/share/man/man${page##*.}/$page
    [ "$(stat -c %a "$page")" = 644 ] || fail "the mode of $page"
    mandoc -T ascii "$page" >"$work/page"
    [ "$(wc -l <"$work/page")" -gt 20 ] || fail "$page is short"
done
! grep -r /usr/local "$dest/opt/td/lib" "$dest/opt/td/share" ||
    fail "another prefix stands in what was installed"

BUILD=$dest/opt/td/bin
PATH=$BUILD:$PATH
random_file "$work/original" 8M
truncate -s 8M "$work/disk"
start_tapdisk disk "aio:$work/disk"
nbdcopy --flush "$work/original" "$uri"
tap-ctl list --help >/dev/null 2>&1 || true
stop_tapdisk
cmp "$work/original" "$work/disk"
