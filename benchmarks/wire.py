"""What the client costs over a bare websocket-client, in one run against one service.

Prints the round trip of a save and of a restore for documents of 200 B to 1 MB, each over
a bare blocking websocket-client that sends and receives the same frames without reading
them, and the throughput of 1 to 64 callers on one connection. Read the ratios: both sides
of each are measured in turns, in the same run.

    python benchmarks/wire.py [--seconds 1.0]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import orjson
import websocket
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from flask_agentuity import wire
from flask_agentuity.client import ThreadClient

THREAD = "thrd_" + "0" * 32
SIZES = {"200 B": 200, "10 KB": 10_000, "100 KB": 100_000, "1 MB": 1_000_000}
TURNS = 12


def document_of(size: int) -> bytes:
    """Return a document of about *size* bytes as chats have them."""
    message = {"role": "user", "content": 'He said "yes" to\nthat, über alles. ' * 3}
    count = max(1, size // (len(orjson.dumps(message)) + 1))
    document = orjson.dumps({"state": {"messages": [message] * count}})
    return document if size > 200 else document[:200].ljust(200)


async def answer(connection: ServerConnection) -> None:
    """Let everybody in; answer with the least work: the id is where the client puts it."""
    stored = b'""'
    with contextlib.suppress(ConnectionClosed):
        await connection.recv(decode=False)
        await connection.send(b'{"success":true}', text=True)
        while True:
            data = await connection.recv(decode=False)
            start = b'{"id":"%b","success":true' % data[7:43]
            if data.startswith(b'"restore"', 54):
                await connection.send(b'%b,"data":%b}' % (start, stored), text=True)
            else:
                await connection.send(start + b"}", text=True)
                stored = data[data.index(b'"user_data":') + 12 : -2]


def run_service(pipe: Connection) -> None:
    async def main() -> None:
        async with serve(answer, "127.0.0.1", 0, compression=None, max_size=None) as server:
            pipe.send(server.sockets[0].getsockname()[1])
            await asyncio.get_running_loop().run_in_executor(None, pipe.recv)

    asyncio.run(main())


class Bare:
    """A websocket-client that sends and receives whole frames, and reads nothing of them."""

    def __init__(self, url: str) -> None:
        self.socket = websocket.create_connection(url, skip_utf8_validation=True)
        self.turn(wire.encode_authorization("key"))

    def turn(self, frame: bytes) -> None:
        self.socket.send(frame, websocket.ABNF.OPCODE_TEXT)
        self.socket.recv_data()


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
    ratios, baselines, times = [], [], []
    for _ in range(TURNS):
        baselines.append(measure(bare, seconds / TURNS))
        times.append(measure(ours, seconds / TURNS))
        ratios.append(times[-1] / baselines[-1])
    print(
        f"{name:>16}   bare {statistics.median(baselines):8.0f} us"
        f"   ours {statistics.median(times):8.0f} us   ratio {statistics.median(ratios):5.2f}"
    )


def throughput(call: Callable[[], object], callers: int, seconds: float) -> tuple[float, float]:
    """Return calls a second, and the 99th percentile of their durations in milliseconds."""
    durations: list[float] = []
    end = time.perf_counter() + seconds

    def work() -> None:
        own = []
        while (begin := time.perf_counter()) < end:
            call()
            own.append(time.perf_counter() - begin)
        durations.extend(own)

    threads = [threading.Thread(target=work) for _ in range(callers)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = len(durations) / (time.perf_counter() - begin)
    return rate, sorted(durations)[int(len(durations) * 0.99)] * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each side of each row")
    seconds: float = parser.parse_args().seconds
    ours_end, service_end = multiprocessing.Pipe()
    service = multiprocessing.get_context("spawn").Process(target=run_service, args=(service_end,))
    service.start()
    url = f"ws://127.0.0.1:{ours_end.recv()}/thread/ws"
    client = ThreadClient(url, "key")
    bare = Bare(url)
    id = "0" * 36

    print("Round trip with one caller")
    for name, size in SIZES.items():
        document = document_of(size)
        save = wire.encode_save(id, THREAD, document)
        restore = wire.encode_restore(id, THREAD)
        compare(
            f"save {name}",
            lambda save=save: bare.turn(save),  # type: ignore[misc]
            lambda document=document: client.save(THREAD, document),  # type: ignore[misc]
            seconds,
        )
        compare(
            f"restore {name}",
            lambda restore=restore: bare.turn(restore),  # type: ignore[misc]
            lambda: client.restore(THREAD),
            seconds,
        )
        if client.restore(THREAD) != document:
            raise SystemExit("What was restored is not what was saved.")

    print("Throughput over one connection, and over the bare client's with one caller")
    for name in ("200 B", "10 KB"):
        document = document_of(SIZES[name])
        save = wire.encode_save(id, THREAD, document)
        base, p99 = throughput(lambda save=save: bare.turn(save), 1, seconds)  # type: ignore[misc]
        print(f"{'bare, ' + name:>16}   {base:8.0f} saves/s   p99 {p99:6.2f} ms")
        for callers in (1, 8, 32, 64):
            rate, p99 = throughput(
                lambda document=document: client.save(THREAD, document),  # type: ignore[misc]
                callers,
                seconds,
            )
            print(
                f"{callers:>4} callers {name:>5}  {rate:8.0f} saves/s   p99 {p99:6.2f} ms"
                f"   ratio {rate / base:5.2f}"
            )
    client.close()
    bare.socket.close()
    ours_end.send(None)
    service.join()


if __name__ == "__main__":
    main()
