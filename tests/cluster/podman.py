"""podman, told to keep to our folders, and the base image that replaces one from a public registry.

The settings here let it build as root where the control groups are odd (version 1 and 2 mixed) and
no systemd runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cluster import locks, paths, progress, registry
from cluster.errors import ClusterError

_SUITE = "bookworm"
_PACKAGES = ("ca-certificates", "python3", "python3-venv")
_CERTIFICATES = Path("/etc/ssl/certs")
_CONFIGURATION = """\
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
runtime = "runc"
"""


def base_image() -> str:
    """Debian with Python, for Dockerfiles' `BASE_IMAGE`; made once per recipe, never pushed."""
    recipe = json.dumps([_SUITE, _PACKAGES])
    full = f"{registry.address()}/finetune-base:{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    with locks.exclusive(paths.images() / "base.lock", "building the base image"):
        if not has(full):
            with progress.step("base image (debootstrap)"):
                _bootstrap(full)
    return full


def _bootstrap(full: str) -> None:
    with tempfile.TemporaryDirectory(dir=paths.images(), prefix="base-") as folder:
        root, archive = Path(folder) / "root", Path(folder) / "root.tar"
        included = f"--include={','.join(_PACKAGES)}"
        command = ["debootstrap", "--variant=minbase", included, _SUITE, str(root), *_mirror()]
        _checked(command)
        leave_out = [f"--exclude=./var/{path}/*" for path in ("cache/apt", "lib/apt/lists", "log")]
        _checked(["tar", "-C", str(root), *leave_out, "-cf", str(archive), "."])
        import_archive(archive, full, "ENV LANG=C.UTF-8")


def _mirror() -> list[str]:
    """The mirror this machine's apt uses, if it is Debian's; else debootstrap knows one."""
    sources = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    for source in sources:
        if source.is_file():
            found = re.search(r"(?m)^[^#\n]*(https?://\S+/debian)/?\s", source.read_text())
            if found:
                return [found.group(1)]
    return []


def build(full: str, dockerfile: Path, context: Path, arguments: Mapping[str, str]) -> None:
    """Build an image; layers of earlier builds are reused, and what uv has downloaded."""
    _share_uv_cache()
    command = ["build", "--network=host", "--pull=never", "--layers", f"--tag={full}"]
    command.append(f"--file={dockerfile}")
    if _CERTIFICATES.is_dir():
        # The machine may trust an authority of its own for downloads.
        command.append(f"--volume={_CERTIFICATES}:{_CERTIFICATES}:ro")
    command += [f"--build-arg={name}={value}" for name, value in arguments.items()]
    run(*command, str(context))


def _share_uv_cache() -> None:
    """Let `RUN --mount=type=cache,target=/root/.cache/uv` find what this machine has downloaded.

    This podman keeps such a mount in a folder below its temporary one, named by the target. Others
    name it differently and merely download once more.
    """
    paths.uv_cache().mkdir(parents=True, exist_ok=True)
    link = _temporary() / "buildah-cache" / "root" / ".cache" / "uv"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(paths.uv_cache())


def _temporary() -> Path:
    return paths.podman_root() / "tmp"


def has(full: str) -> bool:
    """Whether the image is kept here."""
    return run("image", "exists", full, check=False).returncode == 0


def push(full: str) -> None:
    run("push", "--quiet", "--tls-verify=false", "--compression-format=zstd", full)


def import_archive(archive: Path, full: str, change: str) -> None:
    run("import", "--quiet", f"--change={change}", str(archive), full)


def remove(full: str) -> None:
    run("rmi", full, check=False)


def run(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    configuration = paths.podman_root().parent / "containers.conf"
    if not configuration.exists() or configuration.read_text() != _CONFIGURATION:
        configuration.parent.mkdir(parents=True, exist_ok=True)
        # At once: another podman of ours may read it now.
        partial = configuration.with_suffix(f".{os.getpid()}")
        partial.write_text(_CONFIGURATION)
        partial.replace(configuration)
    _temporary().mkdir(parents=True, exist_ok=True)
    folders = [f"--root={paths.podman_root()}", f"--runroot={paths.podman_run()}"]
    folders += [f"--tmpdir={paths.podman_run() / 'tmp'}", "--storage-driver=overlay"]
    environment = {**os.environ, "CONTAINERS_CONF": str(configuration), "TMPDIR": str(_temporary())}
    command = ["podman", *folders, *arguments]
    return _checked(command, environment) if check else _run(command, environment)


def _run(
    command: list[str], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def _checked(
    command: list[str], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    result = _run(command, environment)
    if result.returncode != 0:
        tail = "\n".join((result.stdout + result.stderr).splitlines()[-20:])
        raise ClusterError(f"{command[0]} failed:\n{tail}")
    return result
