"""Load for a server from another process: wrk, or a small client if it is not installed."""

from __future__ import annotations

import http.client
import itertools
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import orjson

CONNECTIONS = 8


def generator() -> str:
    """Return the name of what makes the load here."""
    return "wrk" if shutil.which("wrk") else "the benchmark's own client"


def turns(port: int, cookies: Path, seconds: int) -> dict[str, float]:
    """Return turns a second, and p50 and p99 in ms, of 8 connections.

    :param cookies: a file with a conversation's Cookie header in each line.
    :raises RuntimeError: if a request failed.
    """
    wrk = shutil.which("wrk")
    if wrk is not None:
        script = Path(__file__).with_name("load.lua")
        command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}", "-s", str(script)]
        command += [f"http://127.0.0.1:{port}", "--", str(cookies)]
    else:
        command = [sys.executable, "-m", "benchmarks.load", str(port), str(cookies), str(seconds)]
    output = subprocess.run(command, check=True, capture_output=True).stdout
    found: dict[str, float] = orjson.loads(output.splitlines()[-1])
    if found["failed"]:
        raise RuntimeError(f"{found['failed']} requests failed under load.")
    return found


def _run(port: int, cookies: list[str], seconds: int) -> dict[str, float]:
    following = itertools.cycle(cookies)
    taken: list[float] = []
    failed: list[int] = []
    end = time.perf_counter() + seconds

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while (began := time.perf_counter()) < end:
            connection.request("POST", "/turn", headers={"Cookie": next(following)})
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                failed.append(response.status)
            taken.append((time.perf_counter() - began) * 1_000)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    parts = statistics.quantiles(taken, n=100)
    return {"rate": len(taken) / seconds, "p50": parts[49], "p99": parts[98], "failed": len(failed)}


if __name__ == "__main__":
    _port, _cookies, _seconds = sys.argv[1:]
    _found = _run(int(_port), Path(_cookies).read_text().splitlines(), int(_seconds))
    sys.stdout.buffer.write(orjson.dumps(_found))
