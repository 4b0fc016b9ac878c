#!/usr/bin/env python3
"""A crowd at the unikernel's door, over a tap: network.sh python3 crowd.py, with IMAGE naming the image.

200 connections at once, connections beyond the limit, windows of a few hundred bytes, connections that are reset in the middle of
a command, connections of which only the SYN ever comes (from an address where nobody is). Nothing may hang and no reply be
wrong. Prints PASS a step and TRIED ALL at the end.
"""
import os
import pathlib
import random
import select
import socket
import struct
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
PLACE = ("10.77.0.2", 6379)
BOOT_MAX_S, REPLY_MAX_S, ROOM_MAX_S = 60, 30, 20
# As `--maxclients` below, and what the machine has sockets for at most (`SOCKETS_MAX` of its network).
CLIENTS_MAX, SOCKETS_MAX = 220, 288
PING, PONG = b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"


def connect():
    connection = socket.create_connection(PLACE, timeout=REPLY_MAX_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def read(connection, count):
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        assert more, f"closed after {data[:100]!r}"
        data += more
    return data


def pings(connection):
    connection.sendall(PING)
    return read(connection, len(PONG)) == PONG


def first_client(machine):
    """A connection whose PING was answered."""
    until = time.monotonic() + BOOT_MAX_S
    while time.monotonic() < until:
        assert machine.poll() is None, f"the machine ended: {machine.returncode}"
        try:
            connection = socket.create_connection(PLACE, timeout=1)
            connection.settimeout(REPLY_MAX_S)
            assert pings(connection)
            return connection
        except OSError:
            time.sleep(0.05)
    raise AssertionError("no PONG")


def at_once(count):
    """So many connections, whose SYNs all leave before the first is answered."""
    begun = []
    for _ in range(count):
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(PLACE)
        begun.append(connection)
    until = time.monotonic() + REPLY_MAX_S
    waiting = list(begun)
    while waiting:
        assert time.monotonic() < until, f"{len(waiting)} of {count} never open"
        _, open_now, _ = select.select([], waiting, [], 1)
        for connection in open_now:
            error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            assert error == 0, os.strerror(error)
        waiting = [connection for connection in waiting if connection not in open_now]
    for connection in begun:
        connection.settimeout(REPLY_MAX_S)
    return begun


def reset(connection):
    """Ends it as a crash would: a RST, no goodbye."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def syns(count):
    """SYNs from an address where nobody is: what they open stays half-open."""
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    source, target = socket.inet_aton("10.77.0.77"), socket.inet_aton(PLACE[0])
    for number in range(count):
        head = struct.pack("!HHIIBBHHH", 1024 + number, PLACE[1], random.getrandbits(32), 0, 5 << 4, 2, 64240, 0, 0)
        pseudo = source + target + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(head))
        head = head[:16] + struct.pack("!H", checksum(pseudo + head)) + head[18:]
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(head), 0, 0, 64, socket.IPPROTO_TCP, 0, source, target)
        raw.sendto(ip + head, (PLACE[0], 0))
    raw.close()


def there_is_room_again(count):
    """Opens so many connections, as soon as that can be done."""
    until = time.monotonic() + ROOM_MAX_S
    while True:
        opened = []
        try:
            for _ in range(count):
                connection = socket.create_connection(PLACE, timeout=1)
                connection.settimeout(REPLY_MAX_S)
                opened.append(connection)
                assert pings(connection)
            return opened
        except (OSError, AssertionError):
            [connection.close() for connection in opened]
            assert time.monotonic() < until, "no room"
            time.sleep(0.2)


def narrow(value):
    """A client that takes a large reply through a window of a few hundred bytes, slowly at first."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256)
    connection.settimeout(REPLY_MAX_S)
    connection.connect(PLACE)
    connection.sendall(b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n")
    wanted = b"$%d\r\n%s\r\n" % (len(value), value)
    got = b""
    for _ in range(20):
        got += connection.recv(100)
        assert wanted.startswith(got), got[:100]
        time.sleep(0.01)
    return got + read(connection, len(wanted) - len(got)) == wanted


def crowd(machine):
    first = first_client(machine)
    value = random.Random(1).randbytes(200_000)
    first.sendall(b"*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n$%d\r\n%s\r\n" % (len(value), value))
    assert read(first, 5) == b"+OK\r\n"

    many = at_once(200)
    for connection in many:
        connection.sendall(PING)
    assert all(read(connection, len(PONG)) == PONG for connection in many)
    print("PASS: 200 connections at once are served", flush=True)

    more = [connect() for _ in range(CLIENTS_MAX - 201)]
    assert all(pings(connection) for connection in more)
    words = b"-ERR max number of clients reached\r\n"
    for _ in range(10):
        extra = connect()
        assert read(extra, len(words)) == words and extra.recv(1) == b"", "told, and closed"
    assert pings(first)
    print("PASS: who comes beyond the limit is told, and refused", flush=True)

    for number, connection in enumerate(many):
        if number % 2:
            connection.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000\r\nhalf")
        else:
            connection.sendall(b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n" * 5)
        reset(connection)
    assert pings(first)
    many = there_is_room_again(200)
    print("PASS: connections that vanish leave room", flush=True)

    [connection.close() for connection in more]
    there_is_room_again(1)[0].close()
    assert narrow(value)
    print("PASS: a window of a few hundred bytes gets all, and right", flush=True)

    syns(3 * SOCKETS_MAX)
    assert pings(first) and all(pings(connection) for connection in many)
    [connection.close() for connection in many]
    many = there_is_room_again(200)
    assert pings(first)
    print("PASS: half-open connections are given up", flush=True)

    first.sendall(b"*1\r\n$8\r\nSHUTDOWN\r\n")
    assert machine.wait(REPLY_MAX_S) == 0
    print("TRIED ALL", flush=True)


def main():
    settings = {"MACHINE": "microvm", "MEMORY": "320", "LOCAL": "16mb", "FAR": "mem:64mb", **os.environ, "NET": "tap0"}
    words = [HERE / "../../unikernel-target/run.sh", "--maxclients", str(CLIENTS_MAX)]
    machine = subprocess.Popen(words, env=settings, stdin=subprocess.DEVNULL)
    try:
        crowd(machine)
    finally:
        if machine.poll() is None:
            machine.terminate()
            machine.wait()


if __name__ == "__main__":
    sys.exit(main())
