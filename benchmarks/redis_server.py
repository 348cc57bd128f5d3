"""A redis-server for the benchmark alone."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def free_port() -> int:
    """Return a port that no process listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until *process* listens.

    :raises RuntimeError: if it has ended, or does not listen within 30 seconds.
    """
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} does not listen on port {port}.")


@contextmanager
def redis_server(folder: Path, core: int | None = None) -> Iterator[str | None]:
    """Run a redis-server that keeps nothing on disk; yield its URL, None if none is installed.

    :param core: the core to run on; None: any. With that of its client, no call has to wake an
        idle core, which in a virtual machine takes several times as long as Redis itself.
    """
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        yield None
        return
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    if core is not None:
        os.sched_setaffinity(process.pid, {core})
    try:
        wait_for_port(port, process)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


def received_bytes(url: str | None) -> Callable[[], int]:
    """Return a function that returns how many bytes Redis has received."""
    if url is None:
        return lambda: 0
    # Not above: each worker imports this module, and not each is to import redis.
    from redis import Redis

    client = Redis.from_url(url)
    return lambda: int(client.info("stats")["total_net_input_bytes"])
