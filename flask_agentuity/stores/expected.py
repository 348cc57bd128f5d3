"""What a request expects of a thread that it deletes, or gives another id."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Expected:
    """What a request knows of the thread that it means.

    ``version`` is what the request's first read found (0: it has not read, or nothing was stored).
    ``owner`` is for whom the request works (None: for anyone). ``turn`` is the fencing token of the
    turn that the request has (None: it has none).
    """

    version: int = 0
    owner: str | None = None
    turn: int | None = None

    def means(self, owner: str | None, born: int) -> bool:
        """Return whether a stored thread is the one that the request means.

        Another one may have begun under the same id after the first was deleted, or expired.

        :param owner: whom the stored thread belongs to.
        :param born: the version of its first write; 0 if that is not known.
        """
        if self.owner is not None and owner is not None and self.owner != owner:
            return False
        return not self.version or born <= self.version


#: Whatever is stored under an id.
ANY = Expected()
