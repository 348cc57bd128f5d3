"""Fail if the wheel in a folder lacks a file of the package, such as a Lua script."""

from __future__ import annotations

import sys
from pathlib import Path
from zipfile import ZipFile

(wheel,) = Path(sys.argv[1]).glob("*.whl")
files = {
    path.as_posix()
    for path in Path("flask_agentuity").rglob("*")
    if path.is_file() and path.suffix != ".pyc"
}
with ZipFile(wheel) as archive:
    missing = files - set(archive.namelist())
if missing:
    sys.exit(f"{wheel} lacks {', '.join(sorted(missing))}")
print(f"{wheel} has all {len(files)} files of the package")
