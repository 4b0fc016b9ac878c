"""A RESP connection that keeps every reply as the bytes that came, and can read them as a tree.

It refuses to interpret: no decoding, no exceptions for error replies. RESP2 and RESP3 look the same here.
"""
import socket
import time


class Closed(Exception):
    """The server has closed the connection."""


def pack(args):
    """The request as a multibulk of `args` (bytes)."""
    return b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in args)


class Connection:
    """A blocking connection; `reply()` returns the raw bytes of exactly one reply."""

    def __init__(self, port, timeout_s=60):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout_s = timeout_s
        self.buffer = bytearray()
        self.start = 0

    def close(self):
        self.socket.close()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed from error

    def command(self, *args):
        self.send(pack([a if isinstance(a, bytes) else str(a).encode() for a in args]))
        return self.reply()

    def _more(self):
        if self.start > 1 << 16:
            del self.buffer[: self.start]
            self.start = 0
        try:
            data = self.socket.recv(1 << 18)
        except (ConnectionResetError, BrokenPipeError) as error:
            raise Closed from error
        if not data:
            raise Closed
        self.buffer += data

    def _line(self):
        at = self.start
        while (end := self.buffer.find(b"\r\n", at)) < 0:
            at = max(self.start, len(self.buffer) - 1)
            before = self.start
            self._more()
            at -= before - self.start
        line = bytes(self.buffer[self.start : end + 2])
        self.start = end + 2
        return line

    def _exactly(self, count):
        while len(self.buffer) - self.start < count:
            self._more()
        data = bytes(self.buffer[self.start : self.start + count])
        self.start += count
        return data

    def reply(self):
        """The raw bytes of one whole reply."""
        parts, due = [], 1
        while due:
            line = self._line()
            parts.append(line)
            due -= 1
            kind, head = line[:1], line[1:-2]
            if kind in b"$=!" and head != b"-1":
                parts.append(self._exactly(int(head) + 2))
            elif kind in b"*~>" and head != b"-1":
                due += int(head)
            elif kind == b"%":
                due += 2 * int(head)
            elif kind == b"|":
                due += 2 * int(head) + 1
            elif kind not in b"+-:$*_,#(":
                raise AssertionError(f"not a reply: {line[:80]!r}")
        return b"".join(parts)

    def until_quiet(self, quiet_s, expected=None, limit_s=2.0):
        """Whatever arrives until nothing has come for `quiet_s`, and whether the server closed.

        With `expected` (what the reference sent, and whether it closed) waits up to `limit_s` for that
        much, so that a slow server is not taken for a silent one.
        """
        got, closed = bytes(self.buffer[self.start :]), False
        self.buffer.clear()
        self.start = 0
        until = time.monotonic() + limit_s
        while not closed:
            wanting = expected and (len(got) < len(expected[0]) or expected[1])
            self.socket.settimeout(max(0.001, until - time.monotonic()) if wanting else quiet_s)
            try:
                data = self.socket.recv(1 << 18)
                closed = not data
                got += data
            except TimeoutError:
                break
            except (ConnectionResetError, BrokenPipeError):
                closed = True
        self.socket.settimeout(self.timeout_s)
        return got, closed


class Text(bytes):
    """A reply that is not an aggregate; `kind` is its RESP type byte."""

    kind = b"$"


class Items(list):
    """An aggregate reply; `kind` is its RESP type byte. A map is a list of pairs."""

    kind = b"*"


def parse(raw):
    """The tree of one raw reply."""
    node, end = _node(raw, 0)
    assert end == len(raw), "more than one reply"
    return node


def _node(raw, at):
    end = raw.index(b"\r\n", at)
    kind, head, at = raw[at : at + 1], raw[at + 1 : end], end + 2
    if kind in b"$=!" and head != b"-1":
        size = int(head)
        node = Text(raw[at : at + size])
        at += size + 2
    elif kind in b"*~>%" and head != b"-1":
        node = Items()
        for _ in range(int(head)):
            item, at = _node(raw, at)
            if kind == b"%":
                value, at = _node(raw, at)
                item = Items([item, value])
            node.append(item)
    else:
        node = Text(head)
        if head == b"-1" and kind in b"$*":
            kind = b"_"
    node.kind = kind
    return node, at
