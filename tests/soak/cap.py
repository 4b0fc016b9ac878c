#!/usr/bin/env python3
"""The cap holds: a server's resident memory, seen from outside, while clients do what is hard on it.

    cap.py --binary target/release/remora-server            everything at full size, some minutes
    cap.py --binary ... --scale 0.1 --only clients          a tenth of it, one scenario

Each scenario has a fresh server with `--local-memory 64mb --far-memory mem:4gb`. Its resident set, less the
mapping named `remora-far`, is sampled all the while from /proc; the highest sample must stay within local
memory + 32 MB. Values read back are compared. Exit code 0 only if all of it holds.
"""
import argparse
import contextlib
import pathlib
import random
import resource
import socket
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "conformance"))
import servers  # noqa: E402

LOCAL_MB, SLACK_MB, FAR = 64, 32, "mem:4gb"
SAMPLE_S = 0.02
BATCH = 64
BLOCK = random.Random(3).randbytes(1 << 20)
SIZES = [kb << 10 for kb in (4, 8, 16, 32, 64, 128)]


class Watch:
    """The highest resident set of a process while a `with` lasts. Units: bytes."""

    def __init__(self, pid):
        self.pid, self.peak, self.ended = pid, 0, threading.Event()
        self.thread = threading.Thread(target=self.sample)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def sample(self):
        while not self.ended.wait(SAMPLE_S):
            self.peak = max(self.peak, resident(self.pid))


def resident(pid):
    """Resident bytes but for shared memory, which is where `mem:` keeps far pages."""
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:
        return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("RssAnon", "RssFile")))


def without_far(pid):
    """The same from smaps: all mappings but the one named remora-far."""
    total, is_far = 0, False
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as lines:
        for line in lines:
            words = line.split()
            if not words[0].endswith(":"):
                is_far = "remora-far" in line
            elif words[0] == "Rss:" and not is_far:
                total += int(words[1]) << 10
    return total


def pack(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


class Client:
    """A connection that sends batches and reads whole replies."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.file = self.socket.makefile("rb", 1 << 16)

    def reply(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        if kind == b"-" or not line:
            raise AssertionError(f"answered {line!r}")
        return rest

    def ask(self, *words):
        self.socket.sendall(pack(*words))
        return self.reply()

    def each(self, commands, take=lambda index, reply: None):
        """Sends commands in batches; `take` gets each reply."""
        batch, first = [], 0
        for command in commands:
            batch.append(command)
            if len(batch) == BATCH:
                self.send(batch, first, take)
                first, batch = first + len(batch), []
        self.send(batch, first, take)

    def send(self, batch, first, take):
        # From a thread of its own: both directions may be full at once.
        sender = threading.Thread(target=self.socket.sendall, args=(b"".join(batch),))
        sender.start()
        for index in range(len(batch)):
            take(first + index, self.reply())
        sender.join()


def value(index, size):
    start = index * 7919 % (len(BLOCK) - size)
    return BLOCK[start : start + size]


def differs(index, reply, wanted):
    assert reply == wanted, f"the value of key {index} is wrong"


def values(server, scale):
    """1 GB of values of 4-128 KB: loaded, read, deleted."""
    client, keys = Client(server.port), int(scale * (1 << 30) / (sum(SIZES) / len(SIZES)))
    draw = random.Random(5)
    sizes = [draw.choice(SIZES) for _ in range(keys)]
    client.each(pack("SET", f"key:{index}", value(index, size)) for index, size in enumerate(sizes))
    order = draw.sample(range(keys), keys)
    client.each((pack("GET", f"key:{index}") for index in order),
                lambda at, reply: differs(order[at], reply, value(order[at], sizes[order[at]])))
    client.each(pack("DEL", f"key:{index}") for index in order)
    assert client.ask("DBSIZE") == b"0"


def lists(server, scale):
    """1 GB of lists of 200 elements of 1 KiB: pushed, read, deleted."""
    client, count = Client(server.port), int(scale * (1 << 20) / 200)
    client.each(pack("RPUSH", f"list:{index}", *(value(index * 200 + at, 1024) for at in range(200))) for index in range(count))
    order = random.Random(6).sample(range(count), count)
    client.each((pack("LRANGE", f"list:{index}", 50, 149) for index in order),
                lambda at, reply: differs(order[at], reply, [value(order[at] * 200 + i, 1024) for i in range(50, 150)]))
    client.each(pack("DEL", f"list:{index}") for index in order)


def clients(server, scale):
    """10,000 clients: each connects, reads a value of 32 KB, stays, and leaves."""
    first, size = Client(server.port), 32 << 10
    first.each(pack("SET", f"key:{index}", value(index, size)) for index in range(5_000))
    with contextlib.ExitStack() as stack:
        many = []
        for _ in range(int(9_990 * scale)):
            many.append(socket.create_connection(("127.0.0.1", server.port)))
            stack.callback(many[-1].close)
        for index, one in enumerate(many):
            one.sendall(pack("GET", f"key:{index % 5_000}"))
        time.sleep(1)
        for index, one in enumerate(many):
            left = wanted = len(b"$32768\r\n\r\n") + size
            got = b""
            while left > 0:
                got += one.recv(left)
                left = wanted - len(got)
            differs(index, got[8:-2], value(index % 5_000, size))
    assert first.ask("DBSIZE") == b"5000"


def slow(server, scale):
    """A client that asks for 8 GB of LRANGE replies and reads slowly; another is served meanwhile."""
    writer, elements = Client(server.port), 200_000
    writer.each(pack("RPUSH", "list", *(value(at * 100 + i, 1024) for i in range(100))) for at in range(elements // 100))
    reader = Client(server.port)
    asked = int(8 * scale * (1 << 30) / (elements * 1024)) + 1
    reader.socket.sendall(pack("LRANGE", "list", 0, -1) * asked)
    until = time.monotonic() + 30 * min(1, scale * 2)
    while time.monotonic() < until:
        assert reader.file.read(64 << 10), "the slow reader is cut off"
        began = time.monotonic()
        assert writer.ask("SET", "k", value(1, 4096)) == b"OK"
        assert time.monotonic() - began < 1, "another client waits for the slow one"
        time.sleep(0.01)


def large(server, scale):
    """Values of 512 MB: set, read, overwritten while they are read, deleted."""
    size = int(scale * (512 << 20))
    client, whole = Client(server.port), (BLOCK * (size // len(BLOCK) + 1))[:size]
    for _ in range(2):
        assert client.ask("SET", "big", whole) == b"OK"
        assert client.ask("GET", "big") == whole
    assert client.ask("STRLEN", "big") == str(size).encode()
    reader = Client(server.port)
    reader.socket.sendall(pack("GET", "big"))
    head = reader.file.readline()
    assert client.ask("SET", "big", b"small") == b"OK"
    assert head == b"$%d\r\n" % size and reader.file.read(size) == whole, "not the value that stood"
    assert client.ask("APPEND", "big", b"er") == b"7"


def writers(server, scale):
    """3,000 clients in the middle of a SET of 200 KB; all go on afterwards, and what they wrote is read back."""
    first, size = Client(server.port), 200 << 10
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(int(3_000 * scale))]
        whole = [pack("SET", f"key:{index}", value(index, size)) for index in range(len(many))]
        for half in (slice(0, size // 2), slice(size // 2, None)):
            for index, one in enumerate(many):
                one.sendall(whole[index][half])
            assert first.ask("PING") == b"PONG"
        for index, one in enumerate(many):
            assert one.recv(64) == b"+OK\r\n", f"client {index} was not served"
    for index in range(len(many)):
        differs(index, first.ask("GET", f"key:{index}"), value(index, size))


def hoarders(server, scale):
    """200 clients in the middle of a command of 90,000 small arguments, which fit no page: the largest are closed."""
    first, words = Client(server.port), b"*200001\r\n$4\r\nMSET\r\n" + b"$4\r\nword\r\n" * 90_000
    with contextlib.ExitStack() as stack:
        for _ in range(int(200 * scale)):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            with contextlib.suppress(ConnectionError):
                one.sendall(words)
            assert first.ask("PING") == b"PONG"
        info = first.ask("INFO", "stats").decode()
    assert scale < 0.2 or "evicted_clients:0" not in info, "nobody was closed"


def keys(server, scale):
    """1 M keys of 16 bytes with values of 64 bytes; near memory but for frames is printed."""
    client, count = Client(server.port), int(scale * 1_000_000)
    client.each(pack("SET", f"key:{index:012}", value(index, 64)) for index in range(count))
    client.each((pack("GET", f"key:{index:012}") for index in range(0, count, 7)),
                lambda at, reply: differs(at * 7, reply, value(at * 7, 64)))
    info = dict(line.split(":", 1) for line in client.ask("INFO", "farmem").decode().split("\r\n") if ":" in line)
    frames = (int(info["frames_total"]) - int(info["frames_free"])) * 4096
    near_mb = (resident(server.process.pid) - frames) / (1 << 20)
    print(f"  {count} keys: near memory {near_mb:.1f} MB in all, index {int(info['index_bytes']) / count:.1f} bytes a key")
    assert near_mb < 40, "near memory is 40 MB or more"
    assert client.ask("FLUSHALL") == b"OK"


SCENARIOS = (values, lists, clients, slow, large, writers, hoarders, keys)


def main():
    about = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    about.add_argument("--binary", required=True)
    about.add_argument("--scale", type=float, default=1.0)
    about.add_argument("--only", action="append", choices=[scenario.__name__ for scenario in SCENARIOS])
    options = about.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 30_000), hard))
    bound, failed = (LOCAL_MB + SLACK_MB) << 20, []
    for scenario in SCENARIOS:
        if options.only and scenario.__name__ not in options.only:
            continue
        began, trouble = time.monotonic(), ""
        with servers.running(options.binary, f"{LOCAL_MB}mb", FAR) as server, Watch(server.process.pid) as watch:
            try:
                scenario(server, options.scale)
            except (AssertionError, OSError) as error:
                trouble = f"{type(error).__name__}: {error}  {server.last_words()[-300:]}"
            seen = (resident(server.process.pid), without_far(server.process.pid)) if server.alive() else (0, 0)
        over = (watch.peak - (LOCAL_MB << 20)) / (1 << 20)
        bad = trouble or watch.peak > bound or abs(seen[0] - seen[1]) > 4 << 20
        failed += [scenario.__name__] * bool(bad)
        print(f"{scenario.__name__:8} peak {watch.peak / (1 << 20):6.1f} MB, local memory {over:+6.1f} MB (at most +{SLACK_MB}), "
              f"{seen[1] / (1 << 20):5.1f} MB at the end, {time.monotonic() - began:5.1f} s  {'FAILED ' + trouble if bad else 'ok'}", flush=True)
    sys.exit(f"the cap does not hold: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
