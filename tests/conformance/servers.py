"""Starts the two servers on free loopback ports, and stops them by their own process."""
import contextlib
import os
import socket
import subprocess
import tempfile
import time

from resp import Closed, Connection, parse


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A running server. `is_ours` tells Remora from the packaged redis-server."""

    def __init__(self, process, port, binary, log):
        self.process, self.port, self.log = process, port, log
        self.is_ours, self.is_unikernel = "redis-server" not in os.path.basename(binary), is_unikernel(binary)

    def connect(self):
        return Connection(self.port)

    def translated(self, reply):
        """A reply with the loopback's addresses in it, as if the clients were on the same machine."""
        if not self.is_unikernel or reply is None or reply[:1] not in b"$=":
            return reply
        kind, body = reply[:1], reply.partition(b"\r\n")[2]
        for theirs, ours in UNIKERNEL_ADDRESSES:
            body = body.replace(theirs, ours)
        return b"%s%d\r\n%s" % (kind, len(body) - 2, body) if body else reply

    def clock_error_ms(self, words):
        """How far what this server says of a point in time may be from what another says."""
        return UNIKERNEL_CLOCK_MS if self.is_unikernel and words[0].upper() == b"PEXPIRETIME" else 0

    def alive(self):
        return self.process.poll() is None

    def last_words(self):
        with open(self.log, "rb") as log:
            return log.read()[-2000:].decode("latin1")


def farmem_count(connection, name):
    """One of ours' counters, since the start or the last CONFIG RESETSTAT."""
    stats = parse(connection.command("FARMEM", "STATS"))
    return int(dict(zip(stats[::2], stats[1::2]))[name])


def unplanned_faults(connection):
    """Touches of ours that no plan had named, since the start or the last CONFIG RESETSTAT."""
    return farmem_count(connection, b"unplanned_faults")


def is_unikernel(binary):
    return os.path.basename(binary) == "run.sh"


# The unikernel's clients come over QEMU's user network, and its clock is the machine's, which knows whole seconds.
UNIKERNEL_ADDRESSES = ((b"10.0.2.2:", b"127.0.0.1:"), (b"10.0.2.15:", b"127.0.0.1:"))
UNIKERNEL_CLOCK_MS = 1000


def equal_directives(binary):
    """What the reference is told so that it is configured as ours: the unikernel's clients come from another machine."""
    return ["--protected-mode", "no", "--maxclients", "256"] if is_unikernel(binary) else []


def environment(binary, port, local, far, prefetch):
    """The unikernel's script takes its machine from the environment; a small one boots fastest."""
    if not is_unikernel(binary):
        return None
    return {"MACHINE": "microvm", "MEMORY": "640", **os.environ,
            "PORT": str(port), "LOCAL": local, "FAR": far, "PREFETCH": prefetch}


def arguments(binary, port, folder, is_ours, local, far, prefetch, extra):
    if is_unikernel(binary):
        return [binary, "--enable-debug-command", "yes", *extra]
    if is_ours:
        own = ["--local-memory", local, "--far-memory", far, "--prefetch", prefetch]
    else:
        own = ["--save", "", "--appendonly", "no", "--dir", folder, "--daemonize", "no",
               "--enable-debug-command", "local"]
    return [binary, "--port", str(port), "--bind", "127.0.0.1", *own, *extra]


@contextlib.contextmanager
def running(binary, local="64mb", far="mem:2gb", prefetch="ahead", extra=()):
    """A server that has answered (or refused) its first PING; stopped on leaving."""
    is_ours = "redis-server" not in os.path.basename(binary)
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        port, log = free_port(), os.path.join(folder, "log")
        argv = arguments(binary, port, folder, is_ours, local, far, prefetch, extra)
        with open(log, "wb") as out:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                       env=environment(binary, port, local, far, prefetch))
        server = Server(process, port, binary, log)
        try:
            wait_until_up(server)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_up(server, limit_s=15):
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if not server.alive():
            raise SystemExit(f"the server did not start:\n{server.last_words()}")
        with contextlib.suppress(OSError, Closed):
            # QEMU accepts before its guest can answer: such a connection is given up.
            connection = Connection(server.port, timeout_s=1)
            connection.command("PING")
            connection.close()
            return
        time.sleep(0.02)
    raise SystemExit(f"the server does not answer:\n{server.last_words()}")
