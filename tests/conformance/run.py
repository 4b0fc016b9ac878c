#!/usr/bin/env python3
"""Runs the same commands against the packaged redis-server and ours, and compares the replies byte for byte.

    run.py --binary target/release/remora-server            all scripts, and the redis-py session
    run.py --binary ... --random 60 --seed 7                random commands, in each prefetch mode
    run.py --binary $(which redis-server)                   the harness against itself: must be 100 %

Every script runs in three ways: line by line; with everything evicted before each line (`cold`); and
pipelined in odd pieces (`piped`). Exit code 0 only if nothing differed and nothing was left out.
"""
import argparse
import contextlib
import os
import pathlib
import shutil
import sys
import time

import differential
import script
import servers
from resp import Closed, pack, parse

HERE = pathlib.Path(__file__).resolve().parent
PIECE_SIZES = (1, 7, 1000, 3, 64, 4096, 13)
RAW_PAUSE_S, RAW_QUIET_S = 0.003, 0.03
SHOWN_MAX = 40
GONE_MAX_S = 10


class Tally:
    """What passed and what did not."""

    def __init__(self, verbose):
        self.passed, self.failed, self.verbose = 0, 0, verbose

    def note(self, good, where, text, theirs=None, ours=None):
        if good:
            self.passed += 1
            return
        self.failed += 1
        if self.failed <= SHOWN_MAX or self.verbose:
            print(f"DIFF {where}  {text[:200]}\n  redis:  {shown(theirs)}\n  remora: {shown(ours)}", flush=True)


def shown(reply):
    return "(connection closed)" if reply is None else repr(reply)[1:][:400]


class Pair:
    """The two servers, and the named connections of the running group to both."""

    def __init__(self, theirs, ours, password=None):
        self.servers, self.password = (theirs, ours), password
        self.control = self.controls()
        self.named, self.current = {}, "a"
        self.unplanned = 0

    def controls(self):
        connections = tuple(server.connect() for server in self.servers)
        if self.password:
            for connection in connections:
                connection.command("AUTH", self.password)
        return connections

    def at(self):
        if self.current not in self.named:
            self.named[self.current] = tuple(server.connect() for server in self.servers)
        return self.named[self.current]

    def fresh(self):
        for pair in self.named.values():
            for connection in pair:
                connection.close()
        for connection in self.control:
            connection.close()
        self.named, self.current = {}, "a"
        self.control = self.controls()
        for connection in self.control:
            assert connection.command("FLUSHALL") == b"+OK\r\n", "FLUSHALL failed"
        # A goodbye takes a while through QEMU, and a script may count the clients.
        until = time.monotonic() + GONE_MAX_S
        while self.servers[1].is_unikernel and len(parse(self.control[1].command("CLIENT", "LIST")).splitlines()) > 1:
            assert time.monotonic() < until, "connections that were closed are still there"
            time.sleep(0.005)

    def evict(self):
        """Sends every page of ours to far memory (twice: the first call writes the dirty ones back)."""
        if not self.servers[1].is_ours:
            return
        self.count_unplanned()
        for _ in range(2):
            reply = self.control[1].command("FARMEM", "EVICT", "ALL")
            assert reply[:1] != b"-", f"FARMEM EVICT ALL: {reply!r}"

    def count_unplanned(self):
        """Remembers the most that ours has told: a script may set the counter to zero."""
        if not self.servers[1].is_ours:
            return
        try:
            for connection in self.control:
                connection.command("PING")
        except Closed:  # a script has killed it
            self.control = self.controls()
        self.unplanned = max(self.unplanned, servers.unplanned_faults(self.control[1]))


def same(pair, step, theirs, ours):
    """Whether a line was answered as it should be."""
    server, option = pair.servers[1], step.option
    if step.mark == "near":
        option = str(int(option) + server.clock_error_ms(step.words))
    return script.same(step.mark, option, theirs, server.translated(ours))


def ask(connection, words):
    """One raw reply, or None if the connection is closed instead."""
    try:
        connection.send(pack(words))
        return connection.reply()
    except Closed:
        return None


def scan(connection, words):
    """All elements of a whole iteration, sorted and once each, as one raw reply."""
    words, seen = list(words), set()
    at = next(i for i, word in enumerate(words) if word == b"0")
    for _ in range(100_000):
        reply = ask(connection, words)
        if reply is None or reply[:1] == b"-":
            return reply
        cursor, items = parse(reply)
        seen.update(items)
        if cursor == b"0":
            return pack(sorted(seen))
        words[at] = bytes(cursor)
    raise AssertionError("the iteration does not end")


def run_raw(pair, step, tally, way):
    """Bytes in pieces over their own connection; compares what comes back and whether it is closed."""
    answers = []
    for server in pair.servers:
        connection = server.connect()
        with contextlib.suppress(Closed):
            for piece in step.words:
                connection.send(piece)
                time.sleep(RAW_PAUSE_S)
        answers.append(connection.until_quiet(RAW_QUIET_S, answers[0] if answers else None))
        connection.close()
    tally.note(answers[0] == answers[1], f"{step.where} {way}", step.text, *answers)


def run_one(pair, step, tally, way):
    """A line by itself."""
    theirs, ours = pair.at()
    if step.mark == "ours":
        if pair.servers[1].is_ours:
            reply = ask(ours, step.words)
            tally.note(reply is not None and reply[:1] != b"-", f"{step.where} {way}", step.text, b"(no error)", reply)
    elif step.mark == "scan":
        replies = scan(theirs, step.words), scan(ours, step.words)
        tally.note(replies[0] == replies[1], f"{step.where} {way}", step.text, *replies)
    elif step.mark == "quiet":
        for connection in (theirs, ours):
            connection.send(pack(step.words))
    else:
        replies = ask(theirs, step.words), ask(ours, step.words)
        tally.note(same(pair, step, *replies), f"{step.where} {way}", step.text, *replies)
        if None in replies:
            for connection in pair.named.pop(pair.current):
                connection.close()


def in_pieces(connection, data):
    at, turn = 0, 0
    while at < len(data):
        size = PIECE_SIZES[turn % len(PIECE_SIZES)]
        connection.send(data[at : at + size])
        at, turn = at + size, turn + 1


def run_piped(pair, steps, tally):
    """Several lines in one pipeline, cut at odd places."""
    data = b"".join(pack(step.words) for step in steps)
    heard = []
    for connection in pair.at():
        replies = []
        with contextlib.suppress(Closed):
            in_pieces(connection, data)
        with contextlib.suppress(Closed):
            for step in steps:
                if step.mark != "quiet":
                    replies.append(connection.reply())
        heard.append(replies + [None] * (len(steps) - len(replies)))
    asked = [step for step in steps if step.mark != "quiet"]
    for step, *replies in zip(asked, *heard):
        tally.note(same(pair, step, *replies), f"{step.where} piped", step.text, *replies)
    if None in heard[0][: len(asked)] + heard[1][: len(asked)]:
        for connection in pair.named.pop(pair.current):
            connection.close()


def run_group(pair, group, tally, way):
    pair.fresh()
    waiting = []

    def flush():
        if waiting:
            run_piped(pair, waiting, tally)
            waiting.clear()

    for step in group.steps:
        if way == "piped" and step.mark not in ("on", "sleep", "raw", "ours", "scan"):
            waiting.append(step)
            continue
        flush()
        if way == "cold":
            pair.evict()
        match step.mark:
            case "on":
                pair.current = step.option
            case "sleep":
                time.sleep(int(step.option) / 1000)
            case "raw":
                run_raw(pair, step, tally, way)
            case _:
                run_one(pair, step, tally, way)
    flush()
    pair.count_unplanned()


def run_script(path, options, tally):
    """All groups of a file, each in every way, on a fresh pair of servers."""
    directives, groups = script.load(path)
    password = directives[directives.index("--requirepass") + 1] if "--requirepass" in directives else None
    for way in options.ways.split(","):
        with contextlib.ExitStack() as stack:
            equal = servers.equal_directives(options.binary)
            theirs = stack.enter_context(servers.running(options.redis, extra=[*equal, *directives]))
            ours = stack.enter_context(
                servers.running(options.binary, options.local_memory, options.far_memory, options.prefetch, directives))
            pair = Pair(theirs, ours, password)
            unplanned = 0
            for group in groups:
                try:
                    run_group(pair, group, tally, way)
                    unplanned = max(unplanned, pair.unplanned)
                except (AssertionError, ValueError, Closed, OSError) as error:
                    words = f"{type(error).__name__} {error}"
                    tally.note(False, f"{path.name} {way}", f"group `{group.name}`: {words}", b"", ours.last_words().encode())
                    if not ours.alive():
                        break
                    pair = Pair(theirs, ours, password)
            all_was_planned(options, tally, f"{path.name} {way}", unplanned)


def all_was_planned(options, tally, where, unplanned):
    """Asking ahead, ours touches no page that no plan had named."""
    if options.prefetch == "ahead":
        tally.note(unplanned == 0, where, "unplanned faults", b"0", b"%d" % unplanned)


def run_session(options, tally):
    """redis-py as the client, RESP2 and RESP3."""
    try:
        import session
    except ImportError as error:
        tally.note(False, "session", f"redis-py is missing ({error}): run `make setup`", b"", b"")
        return
    with servers.running(options.redis) as theirs, servers.running(
            options.binary, options.local_memory, options.far_memory, options.prefetch) as ours:
        before = tally.passed, tally.failed
        session.run(theirs, ours, tally)
        if ours.is_ours:
            all_was_planned(options, tally, "redis-py", servers.unplanned_faults(ours.connect()))
    print(f"redis-py     {tally.passed - before[0]:6} same {tally.failed - before[1]:4} different", flush=True)


def main():
    about = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    about.add_argument("--binary", required=True, help="the server under test")
    about.add_argument("--redis", default=shutil.which("redis-server"), help="the reference")
    about.add_argument("--script", action="append", help="only this script (a name or a path); may be repeated")
    about.add_argument("--ways", default="plain,cold,piped")
    about.add_argument("--local-memory", default="")
    about.add_argument("--far-memory", default="mem:2gb")
    about.add_argument("--prefetch", default="ahead")
    about.add_argument("--random", type=float, default=0, metavar="SECONDS", help="random commands instead of scripts")
    about.add_argument("--seed", type=int, default=1)
    about.add_argument("--modes", default="ahead,guided,sequential,none", help="prefetch modes of --random")
    about.add_argument("--traces", default="target/conformance", help="where --random leaves the trace of a failure")
    about.add_argument("--verbose", action="store_true", help="print every difference")
    options = about.parse_args()
    if not options.redis:
        sys.exit("no redis-server to compare with: run `make setup`")
    if not os.path.exists(options.binary):
        sys.exit(f"no such binary: {options.binary}")
    tally, began = Tally(options.verbose), time.monotonic()
    if options.random:
        options.local_memory = options.local_memory or "8mb"
        differential.run(options, tally)
    else:
        options.local_memory = options.local_memory or "64mb"
        every = sorted((HERE / "scripts").glob("*.txt"))
        named = [pathlib.Path(name) if name.endswith(".txt") else HERE / "scripts" / f"{name}.txt"
                 for name in options.script or []]
        for path in named or every:
            before = tally.passed, tally.failed
            run_script(path, options, tally)
            print(f"{path.stem:12} {tally.passed - before[0]:6} same {tally.failed - before[1]:4} different", flush=True)
        if not named:
            run_session(options, tally)
    print(f"conformance: {tally.passed} passed, {tally.failed} failed ({time.monotonic() - began:.0f} s)")
    sys.exit(tally.failed != 0)


if __name__ == "__main__":
    main()
