"""Flask-Session on Redis, on files (cachelib) and on SQLAlchemy."""

from __future__ import annotations

import redis
from cachelib.file import FileSystemCache
from flask import Flask
from flask_session import Session  # type: ignore[import-untyped]
from flask_sqlalchemy import SQLAlchemy

from .bare import CookieSession
from .base import Place


class FlaskSessionRedis(CookieSession):
    """One Redis value for each session."""

    name = "Flask-Session, Redis"
    durability = "Redis's; here memory only"
    needs_redis = True
    most_messages = None

    def __init__(self, app: Flask, place: Place) -> None:
        assert place.redis_url is not None
        app.config["SESSION_TYPE"] = "redis"
        app.config["SESSION_REDIS"] = redis.Redis.from_url(place.redis_url)
        Session(app)


class FlaskSessionFiles(CookieSession):
    """One file for each session."""

    name = "Flask-Session, files"
    durability = "end of the process"
    most_messages = None

    def __init__(self, app: Flask, place: Place) -> None:
        app.config["SESSION_TYPE"] = "cachelib"
        app.config["SESSION_CACHELIB"] = FileSystemCache(str(place.folder / "sessions"), 5_000)
        Session(app)


class FlaskSessionSQLAlchemy(CookieSession):
    """One row for each session, in SQLite as SQLAlchemy opens it."""

    name = "Flask-Session, SQLAlchemy"
    durability = "power failure"
    most_messages = None

    def __init__(self, app: Flask, place: Place) -> None:
        app.config["SESSION_TYPE"] = "sqlalchemy"
        app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{place.folder / 'sessions.db'}"
        app.config["SESSION_SQLALCHEMY"] = SQLAlchemy(app)
        Session(app)
