#!/usr/bin/env python3
"""Runs Redis' own Tcl suite in external mode against ours and against the packaged redis-server.

Fetches the source package of the installed redis-server into target/ (it is never committed), gives each
unit a fresh server, since the suite leaves settings behind, and prints how many tests are ok beside each
other. Tests of commands that Remora does not have (sets, hashes, scripts, MULTI, blocking pops, DEBUG) fail
here by nature: `--durable` goes on after them, and notes count them by reason. A test that fails for none of
these reasons is run again alone, because a failure leaves replies and keys behind that spoil the tests after
it. What fails then is ours to mend: it is named, and the exit code is 1.
"""
import argparse
import itertools
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys

import servers

UNITS = ("unit/type/string", "unit/type/list", "unit/type/list-2", "unit/type/list-3", "unit/keyspace",
         "unit/expire", "unit/scan", "unit/protocol")
UNIT_LIMIT_S = 300
# The suite's own port and that port + 10000 must be free: 32 of them are tried below the base.
BASE_PORTS = (20_100, 50_000)
# Why a test cannot pass here: what its failure says, in this order.
REASONS = (
    ("sets", r"unknown command '(s(add|rem|randmember|scan|members|pop|inter\w*)|smismember)'"),
    ("hashes", r"unknown command 'h\w+'|hash-max-"),
    ("sorted sets", r"unknown command 'z\w+'|zset-max-"),
    ("streams", r"unknown command 'x\w+'"),
    ("MULTI and scripts", r"unknown command '(multi|exec|watch|eval\w*|function)'"),
    ("blocking pops", r"unknown command 'b(lpop|rpop|lmove|lmpop|rpoplpush)'|blocked clients"),
    ("replication", r"repl-ping-replica-period|unknown command '(replicaof|slaveof|psync|sync)'"),
    ("persistence", r"appendonly|loadaof|'reload'|unknown command '(dump|restore|save|bgsave|bgrewriteaof)'|no such variable"),
    ("DEBUG subcommands", r"DEBUG HELP|debug"),
)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
KEYRINGS = {"debian": "/usr/share/keyrings/debian-archive-keyring.gpg", "ubuntu": "/usr/share/keyrings/ubuntu-archive-keyring.gpg"}


def sources():
    """The source entries of this distribution; only these are asked."""
    with open("/etc/os-release", encoding="utf-8") as lines:
        about = dict(line.rstrip("\n").replace('"', "").split("=", 1) for line in lines if "=" in line)
    name, suite = about["ID"], about.get("VERSION_CODENAME", "")
    if name not in KEYRINGS:
        sys.exit(f"the Tcl suite is fetched with apt from Debian or Ubuntu; this is {name}")
    entry = f"deb-src [signed-by={KEYRINGS[name]}]"
    if name == "debian":
        return (f"{entry} http://deb.debian.org/debian {suite} main\n"
                f"{entry} http://deb.debian.org/debian-security {suite}-security main\n")
    return "".join(f"{entry} http://archive.ubuntu.com/ubuntu {pocket} main universe\n"
                   for pocket in (suite, f"{suite}-updates", f"{suite}-security"))


def fetch(folder):
    """The folder of the unpacked source, fetched with apt unless it is there."""
    found = list(folder.glob("redis-*/runtest"))
    if found:
        return found[0].parent
    (folder / "lists/partial").mkdir(parents=True, exist_ok=True)
    (folder / "sources.list").write_text(sources())
    version = subprocess.run(["dpkg-query", "-W", "-f", "${source:Version}", "redis-server"],
                             capture_output=True, text=True, check=True).stdout
    apt = ["apt-get", "-qq", "-o", f"Dir::Etc::sourcelist={folder}/sources.list", "-o", "Dir::Etc::sourceparts=-",
           "-o", f"Dir::State::lists={folder}/lists", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=",
           "-o", "APT::Sandbox::User="]
    print(f"fetching the source of redis {version}", flush=True)
    subprocess.run([*apt, "update"], check=True, cwd=folder)
    subprocess.run([*apt, "source", "--download-only", f"redis={version}"], check=True, cwd=folder)
    archive = next(folder.glob("redis_*.orig.tar.gz"))
    subprocess.run(["tar", "xzf", archive.name], check=True, cwd=folder)
    return next(folder.glob("redis-*/runtest")).parent


def tolerate_missing_commands(suite):
    """Lets the suite's own preparation go on where a server has no FUNCTION; the tests stay as they are."""
    path = suite / "tests/support/server.tcl"
    path.write_text(re.sub(r"(?m)^(\s*)r function flush$", r"\1catch {r function flush}", path.read_text()))


def run_unit(suite, unit, port, only=()):
    """What the suite prints for one unit, or a test of it, against one server; cut off after `UNIT_LIMIT_S`."""
    base = random.randrange(*BASE_PORTS)
    argv = ["./runtest", "--host", "127.0.0.1", "--port", str(port), "--baseport", str(base),
            "--durable", "--clients", "1", "--single", unit, *(word for name in only for word in ("--only", name))]
    process = subprocess.Popen(argv, cwd=suite, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        out, _ = process.communicate(timeout=UNIT_LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, _ = process.communicate()
        out += b"\n[exception]: cut off: the unit hangs\n"
    return COLOUR.sub("", out.decode("utf-8", "replace"))


def results(text):
    """Test names to `ok` or the first lines of the failure."""
    found = {}
    lines = text.splitlines()
    for at, line in enumerate(lines):
        if made := re.match(r"\[ok\]: (.*) \(\d+ ms\)$", line):
            found[made[1]] = "ok"
        elif made := re.match(r"\[(err|exception)\]: (.*?)( in tests/\S+)?$", line):
            said = itertools.takewhile(lambda line: not line.startswith("["), lines[at + 1 : at + 4])
            found[made[2]] = " ".join(said)
    return found


def reason(failure):
    """Which of `REASONS` a failure is for, or None."""
    return next((name for name, pattern in REASONS if re.search(pattern, failure, re.I)), None)


def alone(options, suite, unit, test):
    """The verdict on one test of a unit on a server of its own."""
    with servers.running(options.binary, options.local_memory, options.far_memory) as server:
        return results(run_unit(suite, unit, server.port, [test])).get(test, "it is not reached")


def judge(options, suite, unit, theirs, ours, notes):
    """Notes why tests that are ok on Redis are not on ours; returns those that are ours to mend."""
    mend = []
    for test in (test for test, verdict in theirs.items() if verdict == "ok" and ours.get(test) != "ok"):
        why = reason(ours[test]) if test in ours else None
        if not why:
            again = alone(options, suite, unit, test)
            why = "ok alone, spoilt by a failure before it" if again == "ok" else reason(again)
        if not why and test not in ours and "jemalloc" in (suite / f"tests/{unit}.tcl").read_text():
            why = "asks for jemalloc"
        if why:
            notes[why] = notes.get(why, 0) + 1
        else:
            mend.append(f"{unit}: {test}: {ours.get(test, again)[:300]}")
    return mend


def main():
    about = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    about.add_argument("--binary", required=True)
    about.add_argument("--redis", default=shutil.which("redis-server"))
    about.add_argument("--folder", default="target/redis-tcl", type=pathlib.Path)
    about.add_argument("--unit", action="append", help="only this unit; may be repeated")
    about.add_argument("--local-memory", default="64mb")
    about.add_argument("--far-memory", default="mem:4gb")
    options = about.parse_args()
    suite = fetch(options.folder.resolve())
    tolerate_missing_commands(suite)
    logs = options.folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    total, rows, notes, mend = [0, 0], [], {}, []
    for unit in options.unit or UNITS:
        found = []
        for name, binary, extra in (("redis", options.redis, ["--enable-debug-command", "yes"]), ("remora", options.binary, [])):
            extra = extra if "redis-server" in os.path.basename(binary) else []
            with servers.running(binary, options.local_memory, options.far_memory, extra=extra) as server:
                text = run_unit(suite, unit, server.port)
                (logs / f"{unit.replace('/', '-')}-{name}.log").write_text(text)
                if not server.alive():
                    print(f"{name} has died in {unit}:\n{server.last_words()}")
                found.append(results(text))
        counts = [sum(verdict == "ok" for verdict in one.values()) for one in found]
        total = [a + b for a, b in zip(total, counts)]
        rows.append((unit, *counts))
        if not counts[0]:
            sys.exit(f"{unit}: no test is ok on Redis itself: see {logs}")
        mend += judge(options, suite, unit, *found, notes)
    print(f"\n{'unit':20} {'redis ok':>9} {'remora ok':>9}")
    for unit, theirs, ours in [*rows, ("all", *total)]:
        print(f"{unit:20} {theirs:9} {ours:9}")
    print("\nok on redis and not on remora, because it is about:")
    for why, count in sorted(notes.items(), key=lambda note: -note[1]):
        print(f"{count:30}  {why}")
    for test in mend:
        print(f"to be mended: {test}")
    sys.exit(bool(mend))


if __name__ == "__main__":
    main()
