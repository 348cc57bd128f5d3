"""What the client costs over a bare websocket-client, in one run against one service.

    python -m benchmarks.wire

Prints the round trip of a save and of a restore for documents of 200 B to 1 MB, each over
a bare blocking websocket-client that sends and receives the same frames without reading
them, and the throughput of 1 to 64 callers on one connection. Read the ratios: both sides
of each are measured alternately, in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection

import orjson
import websocket
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from flask_agentuity import wire
from flask_agentuity.client import ThreadClient

from .command import run

THREAD = "thrd_" + "0" * 32
REQUEST = "0" * 36
SIZES = {"200 B": 200, "10 KB": 10_000, "100 KB": 100_000, "1 MB": 1_000_000}
ROUNDS = 12


def document_of(size: int) -> bytes:
    """Return a document of about *size* bytes, like that of a chat."""
    message = {"role": "user", "content": 'He said "yes" to\nthat, über alles. ' * 3}
    count = max(1, size // (len(orjson.dumps(message)) + 1))
    document = orjson.dumps({"state": {"messages": [message] * count}})
    return document if size > 200 else document[:200].ljust(200)


async def answer(connection: ServerConnection) -> None:
    """Accept every key, and answer with the least work: the id is where the client puts it."""
    stored = b'""'
    with contextlib.suppress(ConnectionClosed):
        await connection.recv(decode=False)
        await connection.send('{"success":true}')
        while True:
            data = await connection.recv(decode=False)
            start = b'{"id":"%b","success":true' % data[7:43]
            if data.startswith(b'"restore"', 54):
                await connection.send((b'%b,"data":%b}' % (start, stored)).decode())
            else:
                await connection.send((start + b"}").decode())
                stored = data[data.index(b'"user_data":') + 12 : -2]


def run_service(pipe: Connection) -> None:
    """Serve until the other end of *pipe* is closed, or its process has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    async def main() -> None:
        async with serve(answer, "127.0.0.1", 0, compression=None, max_size=None) as server:
            pipe.send(server.sockets[0].getsockname()[1])
            with contextlib.suppress(EOFError):
                await asyncio.get_running_loop().run_in_executor(None, pipe.recv)

    asyncio.run(main())


@contextlib.contextmanager
def service() -> Iterator[str]:
    """Run the service in a process, and yield its URL."""
    pipe, end = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=run_service, args=(end,), daemon=True
    )
    process.start()
    end.close()
    try:
        yield f"ws://127.0.0.1:{pipe.recv()}/thread/ws"
    finally:
        pipe.close()
        process.terminate()
        process.join()


class Bare:
    """A websocket-client that sends and receives whole frames, and reads nothing of them."""

    def __init__(self, url: str) -> None:
        self._socket = websocket.create_connection(url, skip_utf8_validation=True)
        self.exchange(wire.encode_authorization("key"))

    def exchange(self, frame: bytes) -> None:
        """Send a frame, and receive one."""
        self._socket.send(frame, websocket.ABNF.OPCODE_TEXT)
        self._socket.recv_data()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def measure(call: Callable[[], object], seconds: float) -> float:
    """Return the median duration of *call* in microseconds."""
    durations: list[float] = []
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end or len(durations) < 5:
        call()
        durations.append(time.perf_counter() - begin)
    return statistics.median(durations) * 1e6


def compare(
    name: str, bare: Callable[[], object], ours: Callable[[], object], seconds: float
) -> None:
    """Measure two callables alternately, and print a line."""
    ratios, baselines, times = [], [], []
    for _ in range(ROUNDS):
        baselines.append(measure(bare, seconds / ROUNDS))
        times.append(measure(ours, seconds / ROUNDS))
        ratios.append(times[-1] / baselines[-1])
    print(
        f"{name:>16}   bare {statistics.median(baselines):8.0f} µs"
        f"   ours {statistics.median(times):8.0f} µs   ratio {statistics.median(ratios):5.2f}",
        flush=True,
    )


def throughput(call: Callable[[], object], callers: int, seconds: float) -> tuple[float, float]:
    """Return calls a second, and the 99th percentile of their durations in milliseconds."""
    durations: list[float] = []
    end = time.perf_counter() + seconds

    def work() -> None:
        taken = []
        while (begin := time.perf_counter()) < end:
            call()
            taken.append(time.perf_counter() - begin)
        durations.extend(taken)

    threads = [threading.Thread(target=work) for _ in range(callers)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = len(durations) / (time.perf_counter() - begin)
    return rate, sorted(durations)[int(len(durations) * 0.99)] * 1000


def print_round_trips(client: ThreadClient, bare: Bare, seconds: float) -> None:
    """Measure one caller with documents of all sizes.

    :raises RuntimeError: if a document comes back changed.
    """
    print("Round trip with one caller", flush=True)
    for name, size in SIZES.items():
        document = document_of(size)
        save = wire.encode_save(REQUEST, THREAD, document)
        restore = wire.encode_restore(REQUEST, THREAD)
        compare(
            f"save {name}",
            partial(bare.exchange, save),
            partial(client.save, THREAD, document),
            seconds,
        )
        compare(
            f"restore {name}",
            partial(bare.exchange, restore),
            partial(client.restore, THREAD),
            seconds,
        )
        if client.restore(THREAD) != document:
            raise RuntimeError("What was restored is not what was saved.")


def print_throughput(client: ThreadClient, bare: Bare, seconds: float) -> None:
    """Measure several callers on one connection."""
    print("Throughput over one connection, and over the bare client's with one caller")
    for name in ("200 B", "10 KB"):
        document = document_of(SIZES[name])
        save = wire.encode_save(REQUEST, THREAD, document)
        base, p99 = throughput(partial(bare.exchange, save), 1, seconds)
        print(f"{'bare, ' + name:>16}   {base:8.0f} saves/s   p99 {p99:6.2f} ms", flush=True)
        for callers in (1, 8, 32, 64):
            rate, p99 = throughput(partial(client.save, THREAD, document), callers, seconds)
            print(
                f"{callers:>4} callers {name:>5}  {rate:8.0f} saves/s   p99 {p99:6.2f} ms"
                f"   ratio {rate / base:5.2f}",
                flush=True,
            )


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.wire",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="for each side of each line")
    seconds: float = parser.parse_args().seconds
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(service())
        client = stack.enter_context(contextlib.closing(ThreadClient(url, "key")))
        bare = stack.enter_context(contextlib.closing(Bare(url)))
        print_round_trips(client, bare, seconds)
        print_throughput(client, bare, seconds)


if __name__ == "__main__":
    run(main)
