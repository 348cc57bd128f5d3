"""Several Redis servers that work together: a cluster, and a master with what watches it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from redis.exceptions import ResponseError

from support.ports import free_port
from support.redis_server import RedisServer, running
from support.waiting import eventually

SLOTS = 16_384


def is_complete(client: Any, size: int) -> bool:
    """Return whether a node knows that the cluster of *size* masters is ready."""
    return client.cluster("INFO")["cluster_state"] == "ok" and len(client.cluster("SLOTS")) == size


@contextmanager
def cluster(folder: Path, size: int) -> Iterator[list[RedisServer]]:
    """Run a cluster of *size* masters that share the slots evenly."""
    with ExitStack() as stack:
        nodes = []
        for number in range(size):
            place = folder / str(number)
            place.mkdir()
            nodes.append(stack.enter_context(running(place, "--cluster-enabled", "yes")))
        clients = [stack.enter_context(closing(node.client())) for node in nodes]
        for number, client in enumerate(clients):
            slots = range(SLOTS * number // size, SLOTS * (number + 1) // size)
            client.execute_command("CLUSTER", "ADDSLOTS", *slots)
            # Otherwise nodes of the same epoch have to resolve a conflict.
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", node.port)
        for client in clients:
            eventually(partial(is_complete, client, size))
        yield nodes


def slot_of(node: RedisServer, name: str) -> int:
    """Return the slot that a key is in."""
    with closing(node.client()) as client:
        return int(client.execute_command("CLUSTER", "KEYSLOT", name))


def owner_of(nodes: Sequence[RedisServer], name: str) -> RedisServer:
    """Return the node that has a key, or would have it."""
    for node in nodes:
        with closing(node.client()) as client, suppress(ResponseError):
            client.exists(name)
            return node
    raise LookupError(f"no node has {name}")


def agree(nodes: Sequence[RedisServer], name: str, owner: RedisServer) -> bool:
    """Return whether all nodes say that *owner* has a key."""
    ports = []
    for node in nodes:
        with closing(node.client()) as client:
            try:
                client.exists(name)
                ports.append(node.port)
            except ResponseError as error:
                # MOVED, the slot and the node. Not every redis-py has a class for it.
                ports.append(int(str(error).rpartition(":")[2]))
    return set(ports) == {owner.port}


def begin_to_move(slot: int, source: RedisServer, target: RedisServer) -> None:
    """Have a slot on its way: what is not at the source any more is at the target."""
    with closing(source.client()) as old, closing(target.client()) as new:
        ids = [str(client.cluster("MYID"), "ascii") for client in (old, new)]
        new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])


def end_moving(slot: int, source: RedisServer, target: RedisServer) -> None:
    """Move the keys of a slot, and tell both nodes whose it is now."""
    with closing(source.client()) as old, closing(target.client()) as new:
        own_id = new.cluster("MYID")
        while keys := old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            old.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
        for client in (new, old):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", own_id)


@contextmanager
def watched(folder: Path) -> Iterator[tuple[RedisServer, RedisServer, str]]:
    """Run a master, its replica and a Sentinel; give the two, and the URL of what is watched."""
    for name in ("master", "replica", "sentinel"):
        (folder / name).mkdir()
    port = free_port()
    configuration = folder / "sentinel.conf"
    with ExitStack() as stack:
        master = stack.enter_context(running(folder / "master"))
        replica = stack.enter_context(
            running(folder / "replica", "--replicaof", f"127.0.0.1 {master.port}")
        )
        with closing(replica.client()) as client:
            eventually(lambda: client.info("replication")["master_link_status"] == "up")
        configuration.write_text(
            f"sentinel monitor mine 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds mine 500\n"
            "sentinel failover-timeout mine 3000\n"
        )
        sentinel = stack.enter_context(
            running(folder / "sentinel", "--sentinel", configuration=configuration)
        )
        with closing(sentinel.client()) as client:
            eventually(lambda: len(client.sentinel_slaves("mine")) == 1)
        # A Sentinel that is gone is passed over.
        yield master, replica, f"redis+sentinel://127.0.0.1:{port},127.0.0.1:{sentinel.port}/mine/0"
