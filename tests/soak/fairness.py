#!/usr/bin/env python3
"""Nobody waits for another's miss: a client of hot keys, alone and beside 20 that read cold ones, far memory 5 ms away.

    fairness.py --binary target/release/remora-server [--prefetch ahead]

Prints the P99 of both and their difference, which may be 2 ms: exit code 0 only then. With a prefetch mode that waits
it is not (that is what it is there to show).
"""
import argparse
import pathlib
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "conformance"))
import servers  # noqa: E402
from cap import Client, pack, value  # noqa: E402

LOCAL, FAR = "32mb", "mem:2gb?latency=5ms"
COLD_CLIENTS, COLD_KEYS, COLD_BYTES = 20, 8192, 32 << 10
HOT_KEYS, HOT_BYTES = 16, 1024
REQUESTS, LONGEST_S, ROUNDS, SLACK_MS = 4000, 4, 5, 2.0


def hot_p99_ms(client):
    """The P99 of one client's GETs of hot keys, one after the other. Units: milliseconds."""
    times, end = [], time.perf_counter() + LONGEST_S
    for index in range(REQUESTS):
        if time.perf_counter() > end:
            break
        began = time.perf_counter()
        reply = client.ask("GET", f"hot:{index % HOT_KEYS}")
        times.append((time.perf_counter() - began) * 1e3)
        assert reply == value(index % HOT_KEYS, HOT_BYTES), "a hot value is wrong"
    return statistics.quantiles(times, n=100)[98]


def cold_load(port):
    """Clients in a process of their own, so that this one's clock is not held up by them."""
    words = ["GET", "cold:__rand_int__"]
    return subprocess.Popen(["redis-benchmark", "-p", str(port), "-c", str(COLD_CLIENTS), "-n", "100000000", "-r", str(COLD_KEYS), "-q", *words],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--prefetch", default="ahead")
    options = parser.parse_args()
    with servers.running(options.binary, LOCAL, FAR, options.prefetch) as server:
        client, control = Client(server.port), server.connect()
        client.each(pack("SET", f"cold:{index:012}", value(index, COLD_BYTES)) for index in range(COLD_KEYS))
        client.each(pack("SET", f"hot:{index}", value(index, HOT_BYTES)) for index in range(HOT_KEYS))
        alone, beside, fetched = [], [], []
        for _ in range(ROUNDS):
            alone.append(hot_p99_ms(client))
            load = cold_load(server.port)
            try:
                time.sleep(0.5)
                before = servers.farmem_count(control, b"pages_fetched")
                beside.append(hot_p99_ms(client))
                fetched.append(servers.farmem_count(control, b"pages_fetched") - before)
            finally:
                load.kill()
                load.wait()
    difference = statistics.median(beside) - statistics.median(alone)
    print(f"{options.prefetch}: a hot client's P99 {statistics.median(alone):.2f} ms alone, {statistics.median(beside):.2f} ms beside "
          f"{COLD_CLIENTS} cold ones ({statistics.median(fetched)} pages fetched meanwhile), {difference:+.2f} ms (at most +{SLACK_MS})")
    sys.exit(0 if difference <= SLACK_MS and min(fetched) > 0 else 1)


if __name__ == "__main__":
    main()
