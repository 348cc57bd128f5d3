"""The logs of runs: for each run a hash, and a string that grows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ..runs import ABANDONED_SECONDS, Addition, NewRun, RunKey, RunStore, RunWatch, StoredRun
from .calls import Caller
from .run_watch import RedisRunWatch
from .scripts import APPEND_TO_RUN, BEGIN_RUN, CHANGE_RUN, DELETE_RUNS, FIND_RUN, Script

_ABANDONED = round(ABANDONED_SECONDS * 1000)


class RedisRuns(RunStore):
    """Keeps runs beside their threads.

    :param name_of: returns the key of a thread.
    """

    def __init__(self, caller: Caller, name_of: Callable[[str], bytes]) -> None:
        self._caller = caller
        self._name_of = name_of

    def begin(self, new: NewRun) -> None:
        keep = max(1, round(new.keep * 1000))
        arguments = new.format, new.holder, repr(new.started), keep, _ABANDONED
        self._run(BEGIN_RUN, new.key, arguments)

    def append(self, additions: Sequence[Addition]) -> Collection[RunKey]:
        calls = [
            (
                self._name_of(each.key.thread_id),
                (
                    each.key.run_id,
                    each.at,
                    each.data,
                    each.status or "",
                    int(each.truncated),
                    _ABANDONED,
                ),
            )
            for each in additions
        ]
        if not calls:
            return ()
        replies = self._caller.run_each(additions[0].key.thread_id, APPEND_TO_RUN, calls)
        return [each.key for each, reply in zip(additions, replies, strict=True) if not reply]

    def interrupt(self, key: RunKey) -> bool:
        return bool(self._run(CHANGE_RUN, key, ("interrupt",)))

    def stop(self, key: RunKey) -> bool:
        return bool(self._run(CHANGE_RUN, key, ("stop",)))

    def look(self, keys: Collection[RunKey]) -> Mapping[RunKey, StoredRun]:
        wanted = list(keys)
        if not wanted:
            return {}
        calls = [(self._name_of(key.thread_id), (key.run_id,)) for key in wanted]
        replies = self._caller.run_each(wanted[0].thread_id, FIND_RUN, calls)
        return {
            key: _run_of(key.thread_id, reply)
            for key, reply in zip(wanted, replies, strict=True)
            if reply
        }

    def latest(self, thread_id: str) -> StoredRun | None:
        name = self._name_of(thread_id)
        reply = self._caller.call(name, thread_id, lambda line: line.run(FIND_RUN, (name,)))
        return _run_of(thread_id, reply) if reply else None

    def read(self, key: RunKey, after: int = 0, limit: int | None = None) -> bytes:
        if limit == 0:
            return b""
        name = b"%b:log:%b" % (self._name_of(key.thread_id), key.run_id.encode())
        last = -1 if limit is None else after + limit - 1
        command = b"GETRANGE", name, after, last
        # Not by a script, through which large values would be copied once more.
        (reply,) = self._caller.call(name, key.thread_id, lambda line: line.exchange(command))
        if isinstance(reply, Exception):
            raise self._caller.failure(name, key.thread_id, reply)
        data: bytes = reply
        return data

    def delete(self, thread_id: str) -> None:
        name = self._name_of(thread_id)
        self._caller.call(name, thread_id, lambda line: line.run(DELETE_RUNS, (name,)))

    def watch(self) -> RunWatch:
        return RedisRunWatch(self._caller, self._name_of)

    def _run(self, script: Script, key: RunKey, arguments: Sequence[Any]) -> Any:
        name = self._name_of(key.thread_id)
        arguments = key.run_id, *arguments
        return self._caller.call(
            name, key.thread_id, lambda line: line.run(script, (name,), arguments)
        )


def _run_of(thread_id: str, reply: Sequence[bytes]) -> StoredRun:
    run_id, form, holder, started, status, length, stopping, truncated = map(bytes.decode, reply)
    return StoredRun(
        RunKey(thread_id, run_id),
        form,
        holder,
        float(started),
        status,  # type: ignore[arg-type]
        int(length),
        stopping == "1",
        truncated == "1",
    )
