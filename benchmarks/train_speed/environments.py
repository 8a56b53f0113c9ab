"""Each peer's own environment, in the cache, named by the hash of what is pinned for it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from hub.seed.publish import cache_folder

PINNED = Path(__file__).parent / "environments"
OURS = "ours"
# A lock names everything; resolving again would stumble over a cap that it overrides.
WHOLE = ("--require-hashes", "--no-deps")


class InstallError(RuntimeError):
    """A peer's environment cannot be made; the message is the installer's last line."""


def python_of(name: str, given: dict[str, str]) -> str:
    """The interpreter of the environment `name`: `given`, or made and kept in the cache.

    Raises:
        InstallError: it cannot be installed.
    """
    if name in given:
        return given[name]
    if name == OURS:
        return sys.executable
    lock = PINNED / f"{name}.lock"
    key = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    root = cache_folder().parent
    folder = root / f"bench-{name}-{key}"
    if not (folder / ".ready").exists():
        _install(folder, lock, root)
    return str(folder / "bin" / "python")


def _install(folder: Path, lock: Path, root: Path) -> None:
    uv = shutil.which("uv") or next((str(path) for path in root.glob("uv-*/bin/uv")), None)
    if uv is None:
        raise InstallError("uv is missing: run `make venv` first, or pip install uv")
    print(f"==> {lock.stem}: install into {folder} (some GB when nothing is cached)", flush=True)
    started = time.monotonic()
    python = str(folder / "bin" / "python")
    environment = {"UV_CACHE_DIR": str(root / "uv-cache"), **os.environ}
    for command in (
        ["venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder)],
        ["pip", "install", "--quiet", "--python", python, *WHOLE, "-r", str(lock)],
    ):
        result = subprocess.run(
            [uv, *command], env=environment, capture_output=True, text=True, check=False
        )
        if result.returncode != 0:
            reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise InstallError(f"{lock.stem} cannot be installed: {reason.strip()}")
    (folder / ".ready").touch()
    print(f"    done in {time.monotonic() - started:.0f} s", flush=True)
