#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The README shows what `make demo` prints: each of its lines, in that order,
# but for numbers and bars; "..." stands for what is left out.
#
# time limit: 400
. "$(dirname "$0")/lib.sh"

mkdir "$work/tmp"
TMPDIR=$work/tmp BUILD=$BUILD DEMO_OVER=tcp bash "$TOP/tests/demo.sh" >"$work/printed" 2>"$work/errors" || {
    cat "$work/printed" "$work/errors"
    fail "the demo"
}
[ -z "$(ls -A "$work/tmp")" ] || fail "the demo leaves something behind"
[ "$(tail -n 1 "$work/printed")" = 'demo: OK' ]
python3 - "$TOP/README.md" "$work/printed" <<'END'
import re, sys

def plain(line):
    return re.sub(r"\[[# ]*\]", "[]", re.sub(r"\d+", "1", line.rstrip()))

readme, printed = ([plain(line) for line in open(path)]
                   for path in sys.argv[1:])
begin = readme.index("$ make demo") + 1
shown = readme[begin:readme.index("```", begin)]
at, gap = 0, True
for line in shown:
    if line == "...":
        gap = True
        continue
    if gap:
        found = [i for i in range(at, len(printed)) if printed[i] == line]
        at, gap = (found[0] if found else len(printed)), False
    while at < len(printed) and "[]" in printed[at] != line:
        at += 1 # bars are as many as there was time for
    if at == len(printed) or (printed[at] != line and "[]" not in line):
        sys.exit("the README shows %r, and the demo prints %r" % (
            line, printed[at] if at < len(printed) else "the end"))
    if printed[at] == line:
        at += 1
END
