"""The thread service's wire, without any socket: used by the client and by the service.

Each frame of the protocol can be written and read here, from both ends. Reading is total:
any bytes give an event, and none raises.
"""

from __future__ import annotations

from . import limits
from .ends import ClientProtocol, Phase, ServiceEnd
from .matching import PendingReplies
from .replies import (
    Denied,
    Failure,
    Granted,
    Malformed,
    Reply,
    Success,
    document_of,
    encode_denied,
    encode_document,
    encode_failure,
    encode_granted,
    encode_success,
    parse_reply,
)
from .requests import (
    Authorization,
    Delete,
    Frame,
    Merge,
    Refusal,
    Request,
    RequestId,
    Restore,
    Save,
    encode_authorization,
    encode_delete,
    encode_merge,
    encode_restore,
    encode_save,
    parse_authorization,
    parse_request,
)

__all__ = [
    "Authorization",
    "ClientProtocol",
    "Delete",
    "Denied",
    "Failure",
    "Frame",
    "Granted",
    "Malformed",
    "Merge",
    "PendingReplies",
    "Phase",
    "Refusal",
    "Reply",
    "Request",
    "RequestId",
    "Restore",
    "Save",
    "ServiceEnd",
    "Success",
    "document_of",
    "encode_authorization",
    "encode_delete",
    "encode_denied",
    "encode_document",
    "encode_failure",
    "encode_granted",
    "encode_merge",
    "encode_restore",
    "encode_save",
    "encode_success",
    "limits",
    "parse_authorization",
    "parse_reply",
    "parse_request",
]
