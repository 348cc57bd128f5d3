"""A disk that is full: nothing is damaged, errors say why, and work goes on when there is space."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
# In a new namespace, a program may mount a small disk without being root.
MOUNTED = 'mount -t tmpfs -o size=12m tmpfs "$0" && exec "$@"'


def on_small_disk(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run *command* where *folder* is a disk of 12 MiB."""
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", MOUNTED, str(folder), *command],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.skipif(shutil.which("unshare") is None, reason="there is no unshare on this system")
def test_on_a_full_disk(tmp_path: Path) -> None:
    if on_small_disk(tmp_path, "true").returncode != 0:
        pytest.skip("this system does not let its users mount a disk in a namespace")
    done = on_small_disk(tmp_path, sys.executable, "-m", "stores.sqlite.full_disk", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "check_backup_and_purge" in done.stdout
