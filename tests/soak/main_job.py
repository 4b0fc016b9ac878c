#!/usr/bin/env python3
"""The main job at full size: 1 GB of values and 1 GB of lists behind 64 MB of local memory, all read back.

    main_job.py --binary target/release/remora-server            each prefetch mode over mem:, then file: and dax:, then
                                                                 memory nodes: ours, two copies of it, nbdkit, qemu-nbd
    main_job.py --binary ... --mb 100 --only none                a tenth of it, one way
    main_job.py --binary unikernel-target/run.sh --mb 256        the unikernel in each prefetch mode, over QEMU's own NBD drive on
                                                                 a memory node, and over remora-vhost (programs: target/release)

Values of 4 to 128 KB and lists of about 200 elements of 1 KiB go in through `redis-cli --pipe`; 50 clients then
read every value (GET) and every list (LRANGE, whole and a random part) and compare every byte. Exit code 0 only
if all is right.
"""
import argparse
import contextlib
import multiprocessing
import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "conformance"))
import servers  # noqa: E402
from cap import SIZES, Client, pack  # noqa: E402

LOCAL = "64mb"
PROCESSES, CLIENTS_EACH = 5, 10
ELEMENT, LENGTH_MEAN = 1024, 200
BLOCK = random.Random(5).randbytes(1 << 20)
NODE_START_MAX_S = 20
# name: far memory (FILE and SHM are folders that the run makes, NODEn the URI of a node of NODES), prefetch
WAYS = {
    "ahead": ("mem:4gb", "ahead"),
    "guided": ("mem:4gb", "guided"),
    "sequential": ("mem:4gb", "sequential"),
    "none": ("mem:4gb", "none"),
    "file": ("file:FILE/far?size=4gb", "ahead"),
    "dax": ("dax:SHM/far?size=4gb", "ahead"),
    "memnode": ("NODE0", "ahead"),
    "two-copies": ("NODE0 NODE1", "ahead"),
    "nbdkit": ("NODE0", "ahead"),
    "qemu-nbd": ("NODE0", "ahead"),
}
MODES = ("ahead", "guided", "sequential", "none")
UNIKERNEL_WAYS = {f"{far}-{mode}": ("NODE0", mode) for far in ("nbd", "vhost") for mode in MODES}
# The memory nodes of a way: MEMNODE and VHOST are ours, beside the server; SOCKET is where one listens, DISK a file of 4 GB.
MEMNODE = ["MEMNODE", "--size", "4gb", "--nbd-unix", "SOCKET"]
VHOST = ["VHOST", "--socket", "SOCKET", "--far-memory", "mem:4gb"]
NODES = {
    **{f"nbd-{mode}": [MEMNODE] for mode in MODES},
    **{f"vhost-{mode}": [VHOST] for mode in MODES},
    "memnode": [MEMNODE],
    "two-copies": [MEMNODE, MEMNODE],
    "nbdkit": [["nbdkit", "-f", "-U", "SOCKET", "memory", "4G"]],
    "qemu-nbd": [["qemu-nbd", "-t", "-e", "4", "-f", "raw", "-x", "", "-k", "SOCKET", "DISK"]],
}


def content(name, size):
    """Bytes that belong to a name: it itself, and a piece of the block that starts where the name says."""
    start = hash_of(name) % (len(BLOCK) - size)
    return (name + BLOCK[start:start + size])[:size]


def hash_of(name):
    return int.from_bytes(name[-8:], "big") * 2654435761 >> 7


def value(index):
    return content(b"value:%08d" % index, SIZES[index % len(SIZES)])


def element(key, place):
    return content(b"%b:%06d" % (key, place), ELEMENT)


def length(index):
    return LENGTH_MEAN // 2 + hash_of(b"list:%08d" % index) % (LENGTH_MEAN + 1)


def counts(megabytes):
    """How many values and lists that is."""
    total = megabytes << 20
    return total // (sum(SIZES) // len(SIZES)), total // (LENGTH_MEAN * ELEMENT)


def load(port, values, lists):
    """Everything through redis-cli --pipe; returns what it says."""
    pipe = subprocess.Popen(["redis-cli", "-p", str(port), "--pipe"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for index in range(values):
        pipe.stdin.write(pack(b"SET", b"value:%08d" % index, value(index)))
    for index in range(lists):
        key, end = b"list:%08d" % index, length(index)
        for place in range(0, end, 10):
            elements = [element(key, place) for place in range(place, min(place + 10, end))]
            pipe.stdin.write(pack(b"RPUSH", key, *elements))
    said, _ = pipe.communicate()
    return said.decode().strip().splitlines()[-1]


def read_back(port, tasks, seed):
    """One client: every task is a value's or a list's number. Returns how many replies were wrong."""
    client, dice, wrong = Client(port), random.Random(seed), 0
    for kind, index in tasks:
        if kind == "value":
            client.socket.sendall(pack(b"GET", b"value:%08d" % index))
            wrong += client.reply() != value(index)
            continue
        key, end = b"list:%08d" % index, length(index)
        start = dice.randrange(end)
        stop = dice.randrange(start, end)
        client.socket.sendall(pack(b"LRANGE", key, 0, -1) + pack(b"LRANGE", key, start, stop))
        wrong += client.reply() != [element(key, place) for place in range(end)]
        wrong += client.reply() != [element(key, place) for place in range(start, stop + 1)]
    return wrong


def read_back_all(port, values, lists):
    """50 clients in five processes; returns how many replies were wrong or never came."""
    tasks = [("value", index) for index in range(values)] + [("list", index) for index in range(lists)]
    random.Random(9).shuffle(tasks)

    def process(mine, into):
        wrong = [1] * CLIENTS_EACH  # Until the client has come to its end.

        def client(place):
            wrong[place] = read_back(port, mine[place::CLIENTS_EACH], place)

        threads = [threading.Thread(target=client, args=(place,)) for place in range(CLIENTS_EACH)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        into.value = sum(wrong)

    results = [multiprocessing.Value("q", 1) for _ in range(PROCESSES)]
    workers = [multiprocessing.Process(target=process, args=(tasks[n::PROCESSES], results[n])) for n in range(PROCESSES)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    return sum(result.value for result in results)


def listens(path):
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
        return True
    return False


@contextlib.contextmanager
def nodes(way, binary, folder):
    """The memory nodes of a way, listening; yields their URIs, and stops them by their own process."""
    running, uris = [], []
    try:
        for number, words in enumerate(NODES.get(way, [])):
            path, disk = folder / f"node{number}", folder / f"disk{number}"
            if "DISK" in words:
                with open(disk, "wb") as file:
                    file.truncate(4 << 30)
            programs = pathlib.Path("target/release") if servers.is_unikernel(binary) else pathlib.Path(binary).parent
            put = {"MEMNODE": str(programs / "remora-memnode"), "VHOST": str(programs / "remora-vhost"),
                   "SOCKET": str(path), "DISK": str(disk)}
            running.append(subprocess.Popen([put.get(word, word) for word in words], stderr=subprocess.DEVNULL))
            until = time.monotonic() + NODE_START_MAX_S
            while not listens(path):
                if running[-1].poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"{words[0]} does not listen at {path}")
                time.sleep(0.02)
            uris.append(f"vhost:{path}" if words[0] == "VHOST" else f"nbd+unix:///?socket={path}")
        yield uris
    finally:
        for node in running:
            node.terminate()
            node.wait()


def run(binary, way, megabytes):
    """One way; returns whether everything was right."""
    far, prefetch = (UNIKERNEL_WAYS if servers.is_unikernel(binary) else WAYS)[way]
    for words in NODES.get(way, []):
        if words[0] not in ("MEMNODE", "VHOST") and not shutil.which(words[0]):
            print(f"{way:<11} SKIPPED: no {words[0]} (make setup installs it)", flush=True)
            return "CI" not in os.environ
    with tempfile.TemporaryDirectory(dir=".") as on_disk, tempfile.TemporaryDirectory(dir="/dev/shm") as in_memory:
        far = far.replace("FILE", str(pathlib.Path(on_disk).resolve())).replace("SHM", in_memory)
        with nodes(way, binary, pathlib.Path(in_memory)) as uris:
            far, *more = uris or [far]
            extra = [word for uri in more for word in ("--far-memory", uri)]
            extra += ["--far-copies", "2"] if more else []
            good = check(binary, way, far, prefetch, extra, megabytes)
    return good


def check(binary, way, far, prefetch, extra, megabytes):
    """Loads, reads back, and says how it was."""
    with servers.running(binary, LOCAL, far, prefetch, extra) as server:
        values, lists = counts(megabytes)
        began = time.monotonic()
        said = load(server.port, values, lists)
        loaded = time.monotonic()
        wrong = read_back_all(server.port, values, lists)
        seconds = time.monotonic() - loaded
    good = wrong == 0 and said.startswith("errors: 0")
    print(f"{way:<11} {values} values, {lists} lists  loaded in {loaded - began:5.1f} s ({said})  "
          f"read in {seconds:5.1f} s  {wrong} wrong  {'ok' if good else 'NOT RIGHT'}", flush=True)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--mb", type=int, default=1024, help="of values, and as much again of lists")
    parser.add_argument("--only", choices=[*WAYS, *UNIKERNEL_WAYS])
    options = parser.parse_args()
    is_unikernel = servers.is_unikernel(options.binary)
    if is_unikernel:
        os.environ.setdefault("MACHINE", "q35")
    ways = [options.only] if options.only else list(UNIKERNEL_WAYS if is_unikernel else WAYS)
    sys.exit(0 if all([run(options.binary, way, options.mb) for way in ways]) else 1)


if __name__ == "__main__":
    main()
