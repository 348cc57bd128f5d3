"""Sizes and times on which both ends of the protocol agree."""

from __future__ import annotations

from ..document.codec import MAX_DOCUMENT_BYTES
from ..document.foreign_text import MAX_SHOWN

__all__ = ["MAX_DOCUMENT_BYTES"]

#: The path of the endpoint.
PATH = "/thread/ws"

#: The size of frames that each end must accept, in bytes of JSON. A legal document is 1 MiB; as a
#: JSON string inside a JSON frame each of its quotes and backslashes doubles, and the metadata is
#: sent once more next to it. A larger request is not sent.
MAX_REQUEST_BYTES = 4 * 1024 * 1024

#: The default limit for a frame, in bytes. It is above
#: :data:`MAX_REQUEST_BYTES` so that the refusal can name the request.
MAX_FRAME_BYTES = 16 * 1024 * 1024

#: The largest first frame, in bytes. Its sender is not known yet.
MAX_AUTHORIZATION_BYTES = 4096

#: The longest id of a request, in characters. Clients send a UUID, which has 36.
MAX_ID_LENGTH = 128

#: The longest thread id, in characters. The JavaScript runtime makes ids of at most 64, and
#: accepts others from an application's providers.
MAX_THREAD_ID_LENGTH = 256

#: The most operations in one merge: more items than a document of 1 MiB usually holds.
MAX_OPERATIONS = 20_000

#: The most lists and objects in one request, and in the document of a save. The smallest takes
#: ten bytes of a document of 1 MiB then.
MAX_CONTAINERS = 100_000

#: The most values of all kinds in them: more than a document of 1 MiB can hold.
MAX_VALUES = 600_000

#: The longest error text that is accepted from, or sent to, the other end.
MAX_ERROR_LENGTH = MAX_SHOWN

#: Seconds for connecting and authorizing together (the JavaScript runtime's).
CONNECT_TIMEOUT = 10.0

#: Seconds for a request and its reply (the JavaScript runtime's).
REQUEST_TIMEOUT = 10.0
