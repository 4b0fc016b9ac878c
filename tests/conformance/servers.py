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

    def __init__(self, process, port, is_ours, log):
        self.process, self.port, self.is_ours, self.log = process, port, is_ours, log

    def connect(self):
        return Connection(self.port)

    def alive(self):
        return self.process.poll() is None

    def last_words(self):
        with open(self.log, "rb") as log:
            return log.read()[-2000:].decode("latin1")


def unplanned_faults(connection):
    """Touches of ours that no plan had named, since the start or the last CONFIG RESETSTAT."""
    stats = parse(connection.command("FARMEM", "STATS"))
    return int(dict(zip(stats[::2], stats[1::2]))[b"unplanned_faults"])


def is_unikernel(binary):
    return os.path.basename(binary) == "run.sh"


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
        return [binary, *extra]
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
        server = Server(process, port, is_ours, log)
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
