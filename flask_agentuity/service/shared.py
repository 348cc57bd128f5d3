"""What all connections of a service share."""

from __future__ import annotations

from collections import Counter

from . import open_files
from .addresses import source_of
from .admission import Admission, AdmissionLimits
from .buffers import Buffers
from .fair_pool import FairPool
from .idle_memory import IdleMemory
from .logs import Logs
from .settings import ServiceSettings
from .store_log import StoreLog
from .views import Budget
from .wrong_keys import WrongKeys

#: After a large frame was parsed, no large frame is parsed for the same time, because the parser
#: does not release the interpreter lock.
_REST_AFTER_PARSING = 1.0

#: More threads would not merge faster, but would hold the interpreter lock nearly all the time.
_MERGING = 2

#: The part of the memory that restored documents may take.
_VIEWS_SHARE = 4


class Shared:
    """What all connections of a service share. Belongs to one event loop."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self.logs = Logs()
        store_log = StoreLog()
        #: The threads in which the store is used.
        self.pool = FairPool(
            settings.workers,
            "thread-service-store",
            reserve=settings.reserved_workers,
            single=len(settings.keys) == 1,
            begin_thread=store_log.limit_this_thread,
        )
        #: The threads for large writes, because comparing and merging them takes processor time.
        self.merging = FairPool(
            _MERGING,
            "thread-service-merger",
            reserve=min(1, settings.reserved_workers),
            begin_thread=store_log.limit_this_thread,
        )
        #: The thread in which large frames are parsed.
        self.parsing = FairPool(1, "thread-service-parser", rest=_REST_AFTER_PARSING)
        #: The memory for what clients have restored, and for frames and replies.
        self.budget = Budget(settings.max_memory_bytes // _VIEWS_SHARE)
        self.idle_memory = IdleMemory()
        self.buffers = Buffers(
            settings.max_memory_bytes - settings.max_memory_bytes // _VIEWS_SHARE,
            self.idle_memory.freed,
        )
        self.wrong_keys = WrongKeys()
        self.admission = Admission(
            AdmissionLimits(
                settings.max_unauthorized,
                settings.max_unauthorized_per_address,
                settings.authorization_timeout,
                settings.trusted,
            )
        )
        #: How many connections each tenant has.
        self.connections: Counter[str] = Counter()

    def seconds_to_wait(self, host: str) -> float:
        """Return how long *host* must wait before it may send another key."""
        if host in self._settings.trusted:
            return 0.0
        return self.wrong_keys.wait(source_of(host))

    def is_full(self, tenant: str | None = None) -> bool:
        """Return whether no more connections are accepted, or none of *tenant*.

        One of several keys leaves a quarter of them to the others, also if the limit of open files
        allows fewer than the settings.
        """
        most = min(self._settings.max_connections, open_files.most_connections())
        if self.connections.total() >= most:
            return True
        if tenant is None:
            return False
        share = most if len(self._settings.keys) == 1 else max(1, most * 3 // 4)
        return self.connections[tenant] >= share

    def close(self) -> None:
        """Start no more work."""
        self.pool.close()
        self.merging.close()
        self.parsing.close()
        self.idle_memory.close()
