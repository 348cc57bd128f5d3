"""The scripts that run inside Redis, each composed of files of ``lua/``.

A script decides everything before its first write, so it happens as a whole or not at all.

A thread's own key is a hash. Its fields are

* ``head``: the size of all entries in the document, the number of the next new entry, the version
  of the thread's first write, when it was created (seconds), until when its strings and its indexes
  stay at least (seconds; 0: no end), the version, and when it was updated (seconds),
* for each key of the state its *entry*, named by the key as JSON (so it starts with a quotation
  mark): its number, which gives the order of the keys, the version at which it was last assigned
  without a condition (0: never), and then ``=`` and a small value itself; ``*`` and the size of a
  long value; or ``|`` and, for a list, its size, the number of items, where in its string the first
  item is, and how many bytes follow the last,
* ``metadata``: its JSON and then, each on a line of its own, the labels by which it can be found,
* ``nulls``, if any value may hold a null,
* ``gone``: when a thread with this id was deleted (microseconds), and the last version that it had.
  A hash with nothing else is no thread. Without a new thread it stays for an hour,
* ``lock``: who merges edits into the thread now, and until when at most (microseconds).

A long value, and a list with any items, is a string of its own, named by the thread's key, a dot
and the key as JSON. ``lua/lists.lua`` describes the string of a list. A thread without state and
metadata keeps its hash until it expires, but is in no index.

The index is a sorted set of the ids of threads by the time of their update, and one for each
label, named by the index's key, a dot and the label.

The former format had ``thread`` instead of ``head``, and entries without a stamp; its lists had
commas between their items. It is read as it is, and the first write to a thread brings all of the
thread into this format. A process with the former version finds such a thread damaged: it neither
misreads nor changes it.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files


class Script:
    """A script made of parts, and the name under which Redis keeps it.

    :param parts: the names of files, or a list of them for the body of the function
        ``load_edits``: making what few writes need takes a part of the time of all others.
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
WRITE = Script(
    *("push", *_THREAD, "lists", "entries", "thread", "steps"),
    ["json", "cutting", "splice", "values", "former", "edits"],
    *("write", "store"),
)
DELETE = Script("names", "clock", "heads", "delete")
LOCK = Script("clock", "lock")
UNLOCK = Script("unlock")
TAKE_TURN = Script("take_turn")
END_TURN = Script("end_turn")
PAGE = Script("names", "rows", "page")
SCAN = Script("names", "rows", "scan")
SWEEP = Script("names", "sweep")
