#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# docs/control.md is true: its dialogues, held with a daemon in their order,
# go as they are printed, and each command, argument, event and member of an
# answer stands in the page.
# over: san
. "$(dirname "$0")/lib.sh"

need python3 qemu-io

truncate -s 64M "$work/vm1.img"
start_tapdisk vm1 "fault:|aio:$work/vm1.img"
python3 - "$TOP" "$run_dir/ctl$pid" "$work" <<'END'
import json, re, socket, subprocess, sys

top, path, work = sys.argv[1:]
page = open(top + "/docs/control.md").read()
page = page.replace("/srv/", work + "/").replace("/run/vm1", work + "/vm1")
connection = socket.socket(socket.AF_UNIX)
connection.settimeout(30)
connection.connect(path)
lines = connection.makefile("rw", encoding="utf-8")
seen = set()    # the members of what came
asked = ""


def fail(text):
    sys.exit("docs/control.md: " + text)


def matches(want, got):
    if want == "...":
        return True
    if isinstance(want, dict) and isinstance(got, dict):
        more = "..." in want
        want = {key: value for key, value in want.items() if key != "..."}
        return ((more or want.keys() == got.keys()) and
                all(key in got and matches(want[key], got[key])
                    for key in want))
    if isinstance(want, list) and isinstance(got, list):
        return (len(want) == len(got) and
                all(matches(*pair) for pair in zip(want, got)))
    return type(want) is type(got) and want == got


def note(value):
    if isinstance(value, list):
        for member in value:
            note(member)
    if isinstance(value, dict):
        seen.update(value)
        for key, member in value.items():
            if key != "driver":     # that has its own words
                note(member)


def say(text):
    global asked
    asked = text
    lines.write(text + "\n")
    lines.flush()


def hear(text):
    got = json.loads(lines.readline())
    if "driver-command" not in asked:
        note(got)
    if not matches(json.loads(text), got):
        fail("says\n%s\nbut it is\n%s" % (text, json.dumps(got, indent=1)))


def run(text):
    subprocess.run(text, shell=True, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


handlers = {"->": say, "<-": hear, "$ ": run}
count = 0
for block in re.findall(r"^```dialogue\n(.*?)^```", page, re.S | re.M):
    # a line that continues another begins with blanks
    for line in re.sub(r"\n +", " ", block).splitlines():
        handlers[line[:2]](line[2:].strip())
        count += 1
print(count, "lines went as they are printed")

# what came, and what the source takes and tells, stands in the page
prose = re.sub(r"^```.*?^```", "", page, flags=re.S | re.M)
words = set(re.findall(r"[a-z][a-z0-9_.-]*", " ".join(
    re.findall(r"`([^`]+)`", prose))))
missing = seen - words
if missing:
    fail("these members are not explained: " + " ".join(sorted(missing)))
source = "".join(open(top + "/tools/tapdisk/" + name).read()
                 for name in ("commands.c", "pair.c", "track.c", "events.c"))
commands = set(re.findall(r'\{ "([a-z-]+)", (?:command|pair|track)_', source))
commands |= {"commands", "events"}
titles = set(re.findall(r"^### (.*)$", page, re.M))
if commands != titles:
    fail("commands: " + " ".join(sorted(commands ^ titles)))
for call in re.findall(r'control_unpack\((.*?)\)', source, re.S):
    for name in re.findall(r'"([a-z_]+)"', call):
        if name not in words:
            fail("the argument %s is not explained" % name)
events = source[source.index("change_event"):source.index("tell_event")]
for event in re.findall(r'"([a-z]+)"', events) + re.findall(
        r'_event\(daemon(?:->control)?, "([a-z-]+)"', source):
    if event not in words:
        fail("the event %s is not explained" % event)
END
wait_until ended "$pid"
wait "$pid" || fail "exit: status $?"
