"""The scripts that run inside Redis, each composed of files in ``lua/``, and what they store.

A script checks everything before its first write, so it is applied completely or not at all.

A thread's own key is a hash. Its fields are

* ``head``: the size of all entries in the document, the number of the next new entry, the version
  of the thread's first write, the time of its creation, the time until which its strings and
  indexes stay at least (0: forever), the version, and the time of the last update; times are in
  seconds,
* an *entry* for each key of the state, named by the key in JSON (so it starts with a quotation
  mark): its number, which gives the order of the keys; the version at which it was last set
  unconditionally (0: never); and ``=`` with a small value, ``*`` with the size of a long value, or
  ``|`` with the size of a list, its number of items, the offset of the first item in its string,
  and the number of bytes behind the last item,
* ``metadata``: its JSON, followed by lines with the index terms by which it can be found,
* ``owner``: to whom the thread belongs, percent-encoded, if it has an owner,
* ``nulls``, if any value may contain a null,
* ``gone``: the time in microseconds at which a thread with this id was deleted, and its last
  version. It stays for an hour,
* ``lock``: a token of the request that is merging edits into the thread, and the time in
  microseconds at which the lock expires.

A hash with only the last two fields is not a thread. A thread without state and metadata keeps its
hash until it expires, but is in no index.

A long value, and a list that has items, is stored in a string, named by the thread's key, a dot and
the key in JSON. ``lua/lists.lua`` describes the string of a list.

The index is a sorted set of the ids of threads by the time of the last update, and another one for
each index term, named by the key of the index, a dot and the term. The term of an owner is an at
sign and the owner; those of metadata begin with a quotation mark.

The turn on a thread is a string, named by the thread's key and ``:turn``: the fencing token, the
number of renewals, the time of the last one in microseconds, the number of requests that wait, and
the holder. The last token is kept in a string named by the key of the index and ``.turns``.

The ids of a thread's runs are a list, named by the thread's key and ``:runs``. Each run has a hash,
named by the thread's key, ``:run:`` and the id, and the string of its log with ``:log:``.

The former format had a field ``thread`` instead of ``head``, entries without a version, and lists
with commas between the items. Threads in that format can be read. The first write to such a thread
converts it. A process with the former version of this package finds a converted thread damaged; it
does not change it.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files


class Script:
    """A script, and the digest by which Redis knows it.

    :param parts: the names of files. A list of names becomes the body of the function
        ``load_edits``, because functions that few writes need would delay the others.
    """

    def __init__(self, *parts: str | list[str]) -> None:
        self.text = "\n".join(map(_text_of, parts))
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest().encode()


def _text_of(part: str | list[str]) -> str:
    if isinstance(part, str):
        return _read(part)
    body = "\n".join(map(_read, part))
    return f"load_edits = function()\n  if edits then\n    return\n  end\n{body}\nend"


def _read(part: str) -> str:
    return files(__package__).joinpath("lua", f"{part}.lua").read_text(encoding="utf-8")


_THREAD = ("names", "clock", "expiry", "heads")

READ = Script(*_THREAD, "touch", "read")
RENEW = Script(*_THREAD, "touch", "renew")
_WRITE: tuple[str | list[str], ...] = (
    *("push", *_THREAD, "lists", "cutting", "entries", "thread", "steps"),
    ["json", "unique", "splice", "values", "former", "edits"],
    *("write", "store"),
)
WRITE = Script(*_WRITE)
#: The same for a write under a turn, whose token is one argument more.
FENCED_WRITE = Script("fence", *_WRITE)
#: The same for a write to a copy, whose original and owner are two arguments more.
COPYING_WRITE = Script("names", "copy", *_WRITE)
_DELETION = ("names", "clock", "heads", "runs", "deletion")
DELETE = Script(*_DELETION, "delete")
DELETE_FOR = Script(*_DELETION, "delete_for")
#: The same for a request with a turn, whose token is one argument more.
FENCED_DELETE_FOR = Script("fence", *_DELETION, "delete_for")
ERASE = Script(*_DELETION, "erase")
MOVE = Script(*_DELETION, "expiry", "move")
FENCED_MOVE = Script("fence", *_DELETION, "expiry", "move")
LOCK = Script("clock", "lock")
UNLOCK = Script("unlock")
LEASE_TURN = Script("clock", "turn", "runs", "lease_turn")
FIND_TURN = Script("clock", "turn", "find_turn")
RENEW_TURN = Script("clock", "turn", "renew_turn")
END_TURN = Script("clock", "turn", "end_turn")
COUNT_WAITING = Script("clock", "turn", "count_waiting")
BEGIN_RUN = Script("runs", "begin_run")
APPEND_TO_RUN = Script("runs", "append_to_run")
CHANGE_RUN = Script("runs", "change_run")
FIND_RUN = Script("runs", "find_run")
DELETE_RUNS = Script("runs", "delete_runs")
PAGE = Script(*_THREAD, "rows", "corrections", "page")
SCAN = Script("names", "rows", "scan")
SWEEP = Script(*_THREAD, "corrections", "sweep")
