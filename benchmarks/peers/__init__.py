"""The systems that are compared, each behind one small adapter."""

from __future__ import annotations

from importlib import import_module

from .base import Peer, Place

__all__ = ["ADAPTERS", "Peer", "Place", "find_peer"]

#: Short name: (module, class). The order is that of the tables; bare Flask comes first.
ADAPTERS = {
    "bare": ("bare", "BareFlask"),
    "ours-sqlite": ("ours", "OnSQLite"),
    "ours-sqlite-full": ("ours", "OnSQLiteFull"),
    "ours-redis": ("ours", "OnRedis"),
    "cookie": ("bare", "CookieSession"),
    "session-redis": ("flask_session", "FlaskSessionRedis"),
    "session-files": ("flask_session", "FlaskSessionFiles"),
    "session-sqlalchemy": ("flask_session", "FlaskSessionSQLAlchemy"),
    "hand-blob": ("by_hand_sqlite", "Blob"),
    "hand-rows": ("by_hand_sqlite", "Rows"),
    "hand-fragments": ("by_hand_sqlite", "Fragments"),
    "hand-redis-list": ("by_hand_redis", "RedisList"),
    "hand-redis-append": ("by_hand_redis", "RedisAppend"),
    "langgraph": ("langgraph", "LangGraph"),
    "agents": ("openai_agents", "OpenAIAgents"),
}

#: The same for what is measured by another command.
ADDITIONS = {
    "ours-sqlite-reported": ("ours", "OnSQLiteReported"),
    "ours-sqlite-instrumented": ("ours", "OnSQLiteInstrumented"),
}


def find_peer(key: str) -> type[Peer]:
    """Return the adapter with this key.

    :raises ImportError: if its package is not installed.
    """
    module, name = (ADAPTERS | ADDITIONS)[key]
    peer: type[Peer] = getattr(import_module(f".{module}", __package__), name)
    return peer
