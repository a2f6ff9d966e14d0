#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Break the rules on purpose, one at a time, and see the tests find it.

  mutants.py [NAME...]          all mutants, or those named: a table of what
                                caught what; the last line counts
  mutants.py --check [NAME...]  only that each still applies and compiles
  mutants.py --list             their names and what they break

Options: --jobs N (2) for the compiler, --keep to leave the last mutant in
build/mutants/tree, --top DIRECTORY for another tree than the one that this
stands in.

A mutant is a file NAME.mutant beside this one:

  # SPDX-License-Identifier: BSD-3-Clause
  # W4: a write is told to the guest before the peer has it
  # try: unit/test_mirror sim/1000 pair
  # budget: 120
  @@ replication/mirror.c
  <<<<
  the text as it is
  ====
  the text as it becomes
  >>>>

The first comment names the rules and says what is broken.  `try` are the tests
that may find it, asked in this order: unit/test_x is a program of unit tests,
sim/N the simulator's first N seeds, sim/large/N the same with large disks,
anything else a story of tests/.  `budget` (120) are the seconds of processor
time that they may take together, without compiling; so it says the same on a
machine with other work.  Several edits may follow each other.

MU1 The old text must stand in its file exactly once, else nothing is run at
    all.  White space is not compared, so that a formatter costs nothing.
MU2 Mutants are built in a copy of the tree, build/mutants/tree, which is kept
    for the next time; the work tree is only read.
MU3 What finds nothing in the tree as it is may be asked about mutants: each
    test that one names has to pass without a mutant first.
MU4 A test that takes more than the budget has not found it, and one that hangs
    is ended after twenty times as long.
"""

import argparse
import fcntl
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
TREE = Path("build") / "mutants" / "tree" # below TOP, once that is known
PATIENCE = 20 # seconds by the clock for one of the budget
BASELINE_S = 90
COMPILE = ["-std=gnu11", "-D_GNU_SOURCE", "-I.", "-iquote", "core"]
COMPILE += ["-fsyntax-only", "-x", "c", "-"]


class Trouble(Exception):
    """Nothing can be said about mutants before this is mended."""


class Edit:
    def __init__(self, path, old, new):
        self.path, self.old, self.new = path, old, new

    def apply(self, text):
        """The text with the edit; it must have exactly one place for it."""
        words = self.old.split()
        pattern = re.compile(r"\s+".join(re.escape(word) for word in words))
        places = list(pattern.finditer(text))
        if not words or len(places) != 1:
            raise Trouble(
                f"its text stands {len(places)} times in {self.path}, and "
                "should once: mend it, or remove the mutant if what it breaks "
                f"is gone:\n{self.old}")
        return (text[:places[0].start()] + self.new.strip("\n")
                + text[places[0].end():])


class Mutant:
    def __init__(self, path):
        self.name = path.stem
        self.edits = []
        self.tries, self.budget, self.breaks = [], 120, ""
        try:
            self.parse(path.read_text().splitlines())
        except (ValueError, IndexError) as error:
            raise Trouble(f"{path.name}: {error}") from error

    def parse(self, lines):
        at, part, old, new = None, None, [], []
        for line in lines:
            if part is None and line.startswith("# try:"):
                self.tries = line[6:].split()
            elif part is None and line.startswith("# budget:"):
                self.budget = int(line[9:])
            elif part is None and line.startswith("# SPDX"):
                pass
            elif part is None and line.startswith("#"):
                self.breaks = (self.breaks + " " + line[1:].strip()).strip()
            elif part is None and line.startswith("@@ "):
                at = line[3:].strip()
            elif line == "<<<<":
                old, new = [], []
                part = old
            elif line == "====":
                part = new
            elif line == ">>>>":
                self.edits.append(Edit(at, "\n".join(old), "\n".join(new)))
                part = None
            elif part is not None:
                part.append(line)
            elif line.strip():
                raise ValueError(f"what is this: {line}")
        if not (self.edits and self.tries and self.breaks) or part is not None:
            raise ValueError("it has no edit, no try or no sentence")

    @property
    def rule(self):
        return self.breaks.split(":")[0]

    def texts(self):
        """{path: text with the mutant}"""
        texts = {}
        for edit in self.edits:
            if edit.path not in texts:
                try:
                    texts[edit.path] = (TOP / edit.path).read_text()
                except OSError as error:
                    raise Trouble(f"{self.name}: {error}") from error
            try:
                texts[edit.path] = edit.apply(texts[edit.path])
            except Trouble as trouble:
                raise Trouble(f"{self.name}: {trouble}") from trouble
        return texts


def load(names):
    mutants = [Mutant(path) for path in sorted(HERE.glob("*.mutant"))]
    unknown = set(names) - {mutant.name for mutant in mutants}
    if unknown:
        raise Trouble("there is no mutant " + ", ".join(sorted(unknown)))
    return [m for m in mutants if not names or m.name in names]


def compiles(path, text):
    result = subprocess.run(
        [os.environ.get("CC", "cc"), "-iquote", str(Path(path).parent)]
        + COMPILE, cwd=TOP, input=text, text=True, capture_output=True,
        check=False)
    return result.returncode == 0, result.stderr


def check(mutants):
    troubles = []
    for mutant in mutants:
        try:
            for path, text in mutant.texts().items():
                well, errors = compiles(path, text)
                if not well:
                    raise Trouble(f"{mutant.name} does not compile:\n{errors}")
        except Trouble as trouble:
            troubles.append(str(trouble))
    if troubles:
        raise Trouble("\n".join(troubles))


# --- the copy of the tree ---


def sources():
    git = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=TOP,
        capture_output=True, check=False)
    if git.returncode == 0:
        names = git.stdout.decode().split("\0")
    else: # an unpacked archive
        names = [str(p.relative_to(TOP)) for p in TOP.rglob("*")]
    return [n for n in names if n and not n.startswith(("build/", ".git/"))
            and (TOP / n).is_file()]


def write_if_new(path, content, mode):
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def lock_tree():
    """One hunt at a time; the lock goes with the process."""
    TREE.mkdir(parents=True, exist_ok=True)
    lock = os.open(TREE.parent / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)


def copy_tree():
    names = sources()
    for name in names:
        source = TOP / name
        write_if_new(TREE / name, source.read_bytes(), source.stat().st_mode)
    kept = set(names)
    for path in TREE.rglob("*"):
        name = str(path.relative_to(TREE))
        if path.is_file() and name not in kept and \
                not name.startswith("build/"):
            path.unlink()


def make(targets, jobs):
    result = subprocess.run(
        [os.environ.get("MAKE", "make"), "--no-print-directory", f"-j{jobs}",
         "SAN=", "EXTRA_DRIVERS="] + targets, cwd=TREE, text=True,
        capture_output=True, check=False,
        env={k: v for k, v in os.environ.items()
             if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")})
    if result.returncode != 0:
        raise Trouble(f"make {' '.join(targets)}:\n{result.stdout}"
                      f"{result.stderr}")


# --- tests ---


def targets_of(tries):
    targets = set()
    for test in tries:
        if test.startswith("sim/"):
            targets.add("build/tests/sim/sim")
        elif test.startswith("unit/"):
            targets.add("build/tests/" + test[5:])
        else:
            targets.add("all")
    return sorted(targets)


def split(test):
    """Of the simulator: what it simulates, and the number of seeds."""
    return re.fullmatch(r"(\D*)(\d+)", test).groups()


def command_of(test):
    if test.startswith("sim/"):
        kind, seeds = split(test)
        large = ["--large"] if kind == "sim/large/" else []
        return ["build/tests/sim/sim", *large, "--from", "1", "--seeds", seeds]
    if test.startswith("unit/"):
        return ["build/tests/" + test[5:]]
    return [f"tests/{test}.sh"]


def failure_in(line):
    """What a line of a test's output says of a failure; None if nothing."""
    found = re.match(r"(seed \d+)(?: large)? FAILED|not ok \d+ - (\S+)(?! # SKIP)", line)
    return found and (found[1] or found[2])


def used():
    """Processor time of the children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(test, limit):
    """(passed, what failed, seconds); passed is None when it was too slow.
    Ends with the first failure that it prints."""
    begun, limit_s = time.monotonic(), max(limit, 1) * PATIENCE
    before = used()
    env = dict(os.environ, BUILD="build", CMOCKA_MESSAGE_OUTPUT="TAP")
    with subprocess.Popen(
            command_of(test), cwd=TREE, env=env, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True) as process:

        def give_up(*_):
            os.killpg(process.pid, signal.SIGTERM)
            signal.signal(signal.SIGALRM, kill)
            signal.setitimer(signal.ITIMER_REAL, 10)

        def kill(*_):
            os.killpg(process.pid, signal.SIGKILL)

        signal.signal(signal.SIGALRM, give_up)
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        said, last = None, ""
        for line in process.stdout:
            last = line.strip() or last
            said = said or failure_in(line)
            if said and not test.startswith("unit/"):
                give_up()
        status = process.wait()
        signal.setitimer(signal.ITIMER_REAL, 0)
    seconds = used() - before
    if seconds > limit or said is None and time.monotonic() - begun >= limit_s:
        return None, "", seconds
    if said is None and status == 0:
        return True, "", seconds
    return False, said or last[-60:], seconds


def baseline_tests(mutants):
    """Each that is asked; of the simulator, the most seeds."""
    tests = {test for mutant in mutants for test in mutant.tries}
    most = {}
    for test in tests:
        if test.startswith("sim/"):
            kind, seeds = split(test)
            most[kind] = max(most.get(kind, 0), int(seeds))
    tests = {test for test in tests if not test.startswith("sim/")}
    return sorted(tests) + [f"{kind}{most[kind]}" for kind in sorted(most)]


def run_baseline(mutants, jobs):
    tests = baseline_tests(mutants)
    make(targets_of(tests), jobs)
    for test in tests:
        passed, what, seconds = run(test, BASELINE_S)
        if not passed:
            raise Trouble(f"{test} does not pass without a mutant: {what}")
        print(f"without a mutant {test} passes ({seconds:.1f} s)", flush=True)


def hunt(mutant, jobs):
    """(what caught it or None, seconds)"""
    make(targets_of(mutant.tries), jobs)
    total = 0.0
    for test in mutant.tries:
        passed, what, seconds = run(test, mutant.budget - total)
        total += seconds
        if passed is False:
            return f"{test}: {what}", total
        if passed is None:
            break
    return None, total


def run_all(mutants, jobs, keep):
    missed = 0
    run_baseline(mutants, jobs)
    print(f"{'mutant':28} {'rule':10} {'CPU s':>6}  caught by", flush=True)
    for mutant in mutants:
        originals = {}
        for path, text in mutant.texts().items():
            originals[path] = (TREE / path).read_bytes()
            (TREE / path).write_text(text)
        try:
            caught, seconds = hunt(mutant, jobs)
        finally:
            for path, content in originals.items():
                if not keep:
                    (TREE / path).write_bytes(content)
        if caught is None:
            missed += 1
            caught = f"MISSED within {mutant.budget} s: {mutant.breaks}"
        print(f"{mutant.name:28} {mutant.rule:10} {seconds:6.1f}  {caught}",
              flush=True)
    print(f"{len(mutants) - missed} caught, {missed} missed")
    return 1 if missed else 0


def main():
    global TOP, TREE
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--top", type=Path, default=TOP)
    arguments = parser.parse_args()
    TOP = arguments.top.resolve()
    TREE = TOP / TREE
    try:
        mutants = load(arguments.names)
        if arguments.list:
            for mutant in mutants:
                print(f"{mutant.name:28} {mutant.breaks}")
            return 0
        check(mutants)
        if arguments.check:
            print(f"{len(mutants)} mutants apply and compile")
            return 0
        lock_tree()
        copy_tree()
        return run_all(mutants, arguments.jobs, arguments.keep)
    except Trouble as trouble:
        print(f"mutants: {trouble}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
