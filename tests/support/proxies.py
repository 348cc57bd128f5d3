"""Caching proxies of Debian, each in front of an app: nginx, and Apache's mod_cache."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from support.waiting import eventually

MODULES = Path("/usr/lib/apache2/modules")

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{user}
events {{}}
http {{
    access_log off;
    proxy_cache_path {folder}/cache keys_zone=shared:1m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{app};
            proxy_cache shared;
            proxy_cache_valid 200 60s;
            add_header X-Cache $upstream_cache_status;
        }}
    }}
}}
"""

APACHE = """
ServerRoot {folder}
ServerName 127.0.0.1
PidFile {folder}/apache.pid
DefaultRuntimeDir {folder}
ErrorLog {folder}/error.log
Listen 127.0.0.1:{port}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_http_module {modules}/mod_proxy_http.so
LoadModule cache_module {modules}/mod_cache.so
LoadModule cache_disk_module {modules}/mod_cache_disk.so
{user}
CacheRoot {folder}/cache
CacheEnable disk /
CacheHeader on
ProxyPass / http://127.0.0.1:{app}/
"""


def _find(name: str) -> str:
    """Return the path of a proxy; without one, skip, but fail where CI must have it."""
    if path := shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"):
        return path
    reason = f"there is no {name} on the PATH"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _nginx(folder: Path, port: int, app: int) -> list[str]:
    user = "user root;" if os.geteuid() == 0 else ""
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(folder=folder, port=port, app=app, user=user))
    log = str(folder / "error.log")
    return [_find("nginx"), "-c", str(configuration), "-p", str(folder), "-e", log]


def _apache(folder: Path, port: int, app: int) -> list[str]:
    # Apache does not run as root.
    user = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""
    configuration = folder / "apache.conf"
    configuration.write_text(
        APACHE.format(folder=folder, port=port, app=app, user=user, modules=MODULES)
    )
    return [_find("apache2"), "-f", str(configuration), "-DFOREGROUND"]


PROXIES: dict[str, Callable[[Path, int, int], list[str]]] = {"nginx": _nginx, "apache": _apache}


@contextmanager
def caching_proxy(kind: str, app: int) -> Iterator[tuple[str, int]]:
    """Run a proxy in front of the app at the port *app*; yields the proxy's address."""
    with tempfile.TemporaryDirectory(prefix="proxy", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o777)
        cache = folder / "cache"
        cache.mkdir()
        cache.chmod(0o777)
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            port = free.getsockname()[1]
        process = subprocess.Popen(PROXIES[kind](folder, port, app), stderr=subprocess.PIPE)
        try:

            def listening() -> bool:
                assert process.poll() is None, process.stderr and process.stderr.read().decode()
                with closing(socket.socket()) as attempt:
                    return attempt.connect_ex(("127.0.0.1", port)) == 0

            eventually(listening, f"{kind} listens")
            yield "127.0.0.1", port
        finally:
            process.terminate()
            process.communicate()
