"""How soon clients are connected again after an outage, simulated and with real processes."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, sleep

import pytest

from flask_agentuity.client.address import parse_address
from flask_agentuity.client.backoff import Backoff
from flask_agentuity.client.connectivity import Connectivity
from flask_agentuity.client.settings import ClientSettings
from flask_agentuity.errors import ServiceUnavailable

from .scripted_service import KEY, THREAD, Service

LONG = bool(os.environ.get("FLASK_AGENTUITY_LONG_TESTS"))

SEEDS = 2000
SETTINGS = ClientSettings(parse_address("ws://h"), KEY)
REFUSED = ServiceUnavailable("Connection refused.")


def longest_recovery(outage: float) -> float:
    """Return the seconds within which 95 % of the clients must be connected again."""
    return 2 + outage / 10


def attempts(seed: int, outage: float) -> list[float]:
    """Return when a client tries to connect after losing a healthy connection at 0.

    Every attempt during the outage is refused at once. The last one succeeds.
    """
    backoff = Backoff(
        SETTINGS.reconnect_base,
        SETTINGS.reconnect_max,
        SETTINGS.refused_base,
        SETTINGS.refused_max,
        random.Random(seed).uniform,
    )
    connectivity = Connectivity(
        backoff,
        connect_timeout=SETTINGS.connect_timeout,
        grace=SETTINGS.grace,
        stable_after=SETTINGS.stable_after,
    )
    connectivity.connect(-60)
    connectivity.connected()
    connectivity.authorized(-60, {})
    connectivity.lost(0, REFUSED, answered=True)
    found: list[float] = []
    while not found or found[-1] < outage:
        found.append(connectivity.status.until)
        connectivity.connect(found[-1])
        connectivity.lost(found[-1] + 0.001, REFUSED)
    return found


def most_within(times: list[float], seconds: float) -> int:
    """Return the largest number of *times* within any period of *seconds*."""
    times = sorted(times)
    first = most = 0
    for last, time in enumerate(times):
        while times[first] < time - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.mark.parametrize("outage", [0.5, 1.9, 2.1, 2.2, 3, 5, 10, 30, 60, 120, 300, 600])
def test_recovery_takes_two_seconds_and_a_tenth_of_the_outage(outage: float) -> None:
    recoveries = sorted(attempts(seed, outage)[-1] - outage for seed in range(SEEDS))
    assert recoveries[int(SEEDS * 0.95)] <= longest_recovery(outage)
    # The attempts become rarer, because each delay is a part of the outage so far.
    made = sum(len(attempts(seed, outage)) for seed in range(100)) / 100
    assert made <= 11 + 23 * math.log1p(outage / 20)


@pytest.mark.parametrize("outage", [2.2, 5, 30, 120])
def test_a_hundred_clients_do_not_come_at_once(outage: float) -> None:
    tried = [attempts(seed, outage) for seed in range(100)]
    # The busiest tenth of a second of all, when each client has the first of many attempts.
    assert most_within([time for times in tried for time in times], 0.1) <= 60
    assert most_within([times[-1] for times in tried], 0.1) <= 33


# The workers are forks of one process, so that modules are imported once. A line for each time
# that one is connected: its number, and when.
PROGRAM = """
import os, signal, sys, time, logging
from flask_agentuity.client import ThreadClient
from flask_agentuity.errors import StoreError
logging.disable()
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
children = []
for worker in range(int(sys.argv[4])):
    children.append(os.fork())
    if not children[-1]:
        break
else:
    try:
        os.wait()
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
client = ThreadClient(sys.argv[1], sys.argv[2])
failed = True
while True:
    try:
        client.restore(sys.argv[3])
    except StoreError:
        failed = True
    else:
        if failed:
            os.write(1, b"%d %f\\n" % (worker, time.monotonic()))
        failed = False
    time.sleep(0.05)
"""


@contextmanager
def workers(url: str, count: int) -> Iterator[Callable[[], dict[int, float]]]:
    """Start *count* processes. Calling the result waits until all are connected, and says when."""
    command = [sys.executable, "-c", PROGRAM, url, KEY, THREAD, str(count)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def connected() -> dict[int, float]:
        found: dict[int, float] = {}
        assert process.stdout is not None
        while len(found) < count:
            line = process.stdout.readline()
            assert line, "a worker has ended"
            number, _, at = line.partition(" ")
            found.setdefault(int(number), float(at))
        return found

    try:
        yield connected
    finally:
        process.terminate()
        process.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="the clocks of processes are compared")
def test_real_workers_recover_in_time(serve: Callable[..., Service]) -> None:
    """The long form has two outages, and each recovery but one must be within the limit."""
    service, used = serve(), []
    # Longer than calls wait for the service, so that each worker notices it.
    outages, limit = ((2.2, 5.0), 1) if LONG else ((2.2,), 4)
    with workers(service.url, 10) as connected:
        connected()
        for outage in outages:
            service.close()
            sleep(outage)
            service = serve(port=service.port)
            back = monotonic()
            used += [(at - back) / longest_recovery(outage) for at in connected().values()]
    # The simulation is exact. A busy machine may take longer, but not many times as long.
    assert sorted(used)[-2] <= limit, used
