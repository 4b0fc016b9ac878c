"""Random commands over a small key space, to both servers, every reply compared.

Rounds alternate between *together* (several clients, each with keys of its own, send a pipeline each before
any reply is read, so that commands park and overtake one another) and *alone* (one client, commands about
the whole database). Ours has a tiny local memory, and everything is evicted at random. A run is its seed:
the same seed sends the same bytes. The first difference ends a mode and leaves a script that replays it.
"""
import contextlib
import os
import random
import time

import script
import servers
from resp import Closed, pack

CLIENTS = 4
KEYS = 12
BATCH_MAX = 24
FAR_FUTURE_S = 33177117420
SIZES = (0, 1, 5, 20, 44, 45, 63, 64, 200, 255, 256, 1000, 4000, 4090, 4096, 4097, 8192, 20000, 70000)
NUMBERS = ("0", "1", "-1", "7", "12345", "9223372036854775807", "-9223372036854775808", "-0", "01", "3.0", "abc", "")


class Maker:
    """Makes random commands for keys that start with `prefix`."""

    def __init__(self, dice, prefix):
        self.dice, self.prefix = dice, prefix

    def key(self):
        name = f"{self.prefix}{self.dice.randrange(KEYS)}"
        return name if self.dice.random() < 0.9 else name + "-" * 5000

    def value(self):
        if self.dice.random() < 0.2:
            return self.dice.choice(NUMBERS)
        size = self.dice.choice(SIZES) if self.dice.random() < 0.5 else self.dice.randrange(40)
        return self.dice.randbytes((size + 3) // 4).hex()[:size] if size < 300 else self.dice.choice("abcd") * size

    def element(self):
        return self.dice.choice("abcdef") if self.dice.random() < 0.5 else self.value()

    def index(self):
        return self.dice.choice((0, 1, 2, 5, -1, -2, -5, 10, 100, -100, self.dice.randrange(-40, 40)))

    def offset(self):
        return self.dice.choice((0, 1, 3, 4095, 4096, 5000, self.dice.randrange(200)))

    def end(self):
        return self.dice.choice(("LEFT", "RIGHT"))

    def number(self):
        return self.dice.choice((1, -1, 5, 100, -3, 9223372036854775807, "x"))

    def expiry(self):
        return self.dice.choice((["EX", 1000], ["PX", 1000000], ["EXAT", FAR_FUTURE_S], ["PXAT", FAR_FUTURE_S * 1000]))

    def set(self):
        words = ["SET", self.key(), self.value()]
        if self.dice.random() < 0.3:
            words.append(self.dice.choice(("NX", "XX")))
        if self.dice.random() < 0.3:
            words.append("GET")
        chance = self.dice.random()
        return words + (self.expiry() if chance < 0.2 else ["KEEPTTL"] if chance < 0.3 else [])

    def command(self):
        """The marker, its argument, and the words of one command on keys of this prefix."""
        words = self.dice.choice(COMMANDS)(self)
        near = words[0] in ("TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME")
        return ("near", "5000") if near else ("", ""), [str(word).encode() for word in words]


COMMANDS = (
    [Maker.set] * 8
    + [lambda m: ["GET", m.key()]] * 8
    + [lambda m: ["RPUSH", m.key()] + [m.element() for _ in range(m.dice.choice((1, 1, 2, 5, 40)))]] * 5
    + [lambda m: ["LPUSH", m.key()] + [m.element() for _ in range(m.dice.choice((1, 1, 2, 5, 40)))]] * 5
    + [lambda m: ["LRANGE", m.key(), m.index(), m.index()]] * 4
    + [lambda m: ["LRANGE", m.key(), 0, -1]] * 4
    + [
        lambda m: ["GETEX", m.key()] + m.dice.choice(([], ["PERSIST"], m.expiry())),
        lambda m: ["GETDEL", m.key()],
        lambda m: ["GETSET", m.key(), m.value()],
        lambda m: ["SETNX", m.key(), m.value()],
        lambda m: ["SETEX", m.key(), 1000, m.value()],
        lambda m: ["MGET"] + [m.key() for _ in range(4)],
        lambda m: ["MSET"] + [f() for _ in range(3) for f in (m.key, m.value)],
        lambda m: ["MSETNX"] + [f() for _ in range(2) for f in (m.key, m.value)],
        lambda m: ["APPEND", m.key(), m.value()],
        lambda m: ["APPEND", m.key(), m.value()],
        lambda m: ["STRLEN", m.key()],
        lambda m: ["SETRANGE", m.key(), m.offset(), m.value()],
        lambda m: ["GETRANGE", m.key(), m.index(), m.index()],
        lambda m: ["GETRANGE", m.key(), m.offset(), m.offset()],
        lambda m: ["INCR", m.key()],
        lambda m: ["INCRBY", m.key(), m.number()],
        lambda m: ["DECRBY", m.key(), m.number()],
        lambda m: ["INCRBYFLOAT", m.key(), m.dice.choice(("1.5", "0.1", "-3", "1e3"))],
        lambda m: ["LPUSHX", m.key(), m.element()],
        lambda m: ["RPUSHX", m.key(), m.element(), m.element()],
        lambda m: ["LPOP", m.key()],
        lambda m: ["RPOP", m.key()],
        lambda m: ["LPOP", m.key(), m.dice.randrange(8)],
        lambda m: ["RPOP", m.key(), m.dice.randrange(8)],
        lambda m: ["LMPOP", 2, m.key(), m.key(), m.end(), "COUNT", m.dice.randrange(1, 6)],
        lambda m: ["LLEN", m.key()],
        lambda m: ["LINDEX", m.key(), m.index()],
        lambda m: ["LSET", m.key(), m.index(), m.element()],
        lambda m: ["LINSERT", m.key(), m.dice.choice(("BEFORE", "AFTER")), m.element(), m.element()],
        lambda m: ["LREM", m.key(), m.dice.choice((0, 1, -1, 2, -2)), m.element()],
        lambda m: ["LTRIM", m.key(), m.dice.randrange(4), m.dice.choice((-1, -2, 10, 100))],
        lambda m: ["LPOS", m.key(), m.element()],
        lambda m: ["LPOS", m.key(), m.element(), "RANK", m.dice.choice((1, 2, -1, -2)), "COUNT", m.dice.randrange(3), "MAXLEN", m.dice.choice((0, 3, 30))],
        lambda m: ["LMOVE", m.key(), m.key(), m.end(), m.end()],
        lambda m: ["RPOPLPUSH", m.key(), m.key()],
        lambda m: ["DEL", m.key()],
        lambda m: ["DEL", m.key(), m.key()],
        lambda m: ["UNLINK", m.key()],
        lambda m: ["EXISTS", m.key(), m.key()],
        lambda m: ["TYPE", m.key()],
        lambda m: ["TOUCH", m.key(), m.key()],
        lambda m: ["RENAME", m.key(), m.key()],
        lambda m: ["RENAMENX", m.key(), m.key()],
        lambda m: ["COPY", m.key(), m.key()],
        lambda m: ["COPY", m.key(), m.key(), "REPLACE"],
        lambda m: ["EXPIRE", m.key(), m.dice.choice((1000, 2000, -1))] + m.dice.choice(([], ["NX"], ["XX"])),
        # Never the same time to live twice: which of two is greater would hang on the millisecond between them.
        lambda m: ["EXPIRE", m.key(), m.dice.randrange(3_000, 10**8), m.dice.choice(("GT", "LT"))],
        lambda m: ["PEXPIREAT", m.key(), FAR_FUTURE_S * 1000 + m.dice.randrange(3)],
        lambda m: ["TTL", m.key()],
        lambda m: ["PTTL", m.key()],
        lambda m: ["PEXPIRETIME", m.key()],
        lambda m: ["PERSIST", m.key()],
        lambda m: ["OBJECT", "ENCODING", m.key()],
        lambda m: ["GET", m.key(), "too many"],
    ]
)

ALONE = (
    ("sorted", ["KEYS", "*"]),
    ("sorted", ["KEYS", "c1:*"]),
    ("", ["DBSIZE"]),
    ("kind", ["RANDOMKEY"]),
    ("", ["SWAPDB", "0", "1"]),
    ("", ["MOVE", "c0:1", "1"]),
    ("", ["MOVE", "c1:2", "1"]),
    ("", ["COPY", "c2:1", "c2:2", "DB", "1"]),
    ("", ["LCS", "c0:1", "c0:2", "LEN"]),
)


class Different(Exception):
    """The first difference of a run."""


class Run:
    """One mode of one seed."""

    def __init__(self, theirs, ours, seed, mode):
        self.dice = random.Random(f"{seed} {mode}")
        self.servers = (theirs, ours)
        self.clients = [tuple(server.connect() for server in self.servers) for _ in range(CLIENTS)]
        self.control = ours.connect()
        self.makers = [Maker(self.dice, f"c{n}:") for n in range(CLIENTS)]
        self.trace, self.compared = ["== replay"], 0

    def evict(self):
        self.trace.append("@ours FARMEM EVICT ALL")
        if self.servers[1].is_ours:
            reply = self.control.command("FARMEM", "EVICT", "ALL")
            if reply[:1] == b"-":
                raise Different(f"FARMEM EVICT ALL: {reply!r}")

    def batch(self, client, commands):
        """Notes a pipeline of one client, and the bytes of it."""
        self.trace.append(f"@on client{client}")
        for (mark, option), words in commands:
            quoted = " ".join(quote(word) for word in words)
            self.trace.append(f"@{mark} {option} {quoted}" if mark else quoted)
        return b"".join(pack(words) for _, words in commands)

    def compare(self, client, commands):
        """Reads the replies of one client to one pipeline."""
        theirs, ours = self.clients[client]
        for (mark, option), words in commands:
            expected = theirs.reply()
            try:
                reply = ours.reply()
            except (Closed, OSError) as error:
                raise Different(f"{shortened(words)}\n  redis:  {expected[:300]!r}\n  remora: {type(error).__name__}") from error
            if not script.same(mark, option, expected, reply):
                raise Different(f"{shortened(words)}\n  redis:  {expected[:300]!r}\n  remora: {reply[:300]!r}")
            self.compared += 1

    def together(self):
        batches = []
        for client in range(CLIENTS):
            commands = [self.makers[client].command() for _ in range(self.dice.randrange(1, BATCH_MAX))]
            data = self.batch(client, commands)
            cut = self.dice.randrange(len(data))
            batches.append((client, commands, data, cut))
        for half in (0, 1):
            for client, _, data, cut in batches:
                for connection in self.clients[client]:
                    connection.send(data[cut:] if half else data[:cut])
        for client, commands, _, _ in batches:
            self.compare(client, commands)

    def alone(self):
        mark, words = self.dice.choice(ALONE) if self.dice.random() < 0.97 else ("", ["FLUSHALL"])
        commands = [((mark, ""), [word.encode() for word in words])]
        data = self.batch(0, commands)
        for connection in self.clients[0]:
            connection.send(data)
        self.compare(0, commands)

    def read_everything(self):
        """Every key of every client, once more, cold."""
        self.evict()
        for client in range(CLIENTS):
            keys = [f"c{client}:{n}" for n in range(KEYS)]
            commands = [(("", ""), [word.encode() for word in words]) for key in keys
                        for words in (["TYPE", key], ["GET", key], ["LRANGE", key, "0", "-1"])]
            data = self.batch(client, commands)
            for connection in self.clients[client]:
                connection.send(data)
            self.compare(client, commands)

    def step(self):
        chance = self.dice.random()
        if chance < 0.15:
            self.evict()
        elif chance < 0.25:
            self.alone()
        else:
            self.together()


def quote(word):
    """A word as a script line has it."""
    text = word.decode("latin1")
    if len(text) > 400 and len(set(text)) == 1:
        return f"%rep({text[0]},{len(text)})"
    return '"' + "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else f"\\x{ord(c):02x}" for c in text) + '"'


def shortened(words):
    return " ".join(word[:40].decode("latin1") + ("..." if len(word) > 40 else "") for word in words)


def run(options, tally):
    """Every mode for its share of the time."""
    modes = options.modes.split(",")
    for mode in modes:
        with contextlib.ExitStack() as stack:
            theirs = stack.enter_context(servers.running(options.redis))
            ours = stack.enter_context(servers.running(options.binary, options.local_memory, options.far_memory, mode))
            one = Run(theirs, ours, options.seed, mode)
            until = time.monotonic() + options.random / len(modes)
            try:
                while time.monotonic() < until:
                    one.step()
                one.read_everything()
            except (Different, AssertionError, ValueError, Closed, OSError) as error:
                path = leave_trace(options, mode, one.trace)
                print(f"DIFF seed {options.seed}, {mode}: {error}\n  replay: --ways plain --prefetch {mode} "
                      f"--local-memory {options.local_memory} --script {path}", flush=True)
                if not ours.alive():
                    print(f"  the server is gone: {ours.last_words()}")
                tally.failed += 1
            tally.passed += one.compared
            print(f"random {mode:12} {one.compared:8} replies compared, seed {options.seed}", flush=True)


def leave_trace(options, mode, trace):
    os.makedirs(options.traces, exist_ok=True)
    path = os.path.join(options.traces, f"random-{options.seed}-{mode}.txt")
    with open(path, "w", encoding="utf-8") as out:
        out.write("\n".join(trace) + "\n")
    return path
