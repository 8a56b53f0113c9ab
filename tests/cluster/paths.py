"""Where everything lives: what survives `down` (cache) and what does not (state).

Only paths belong here; who creates or removes them is decided by the module that uses them.
"""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
REPOSITORY = PACKAGE.parent.parent


def _xdg(variable: str, fallback: str) -> Path:
    value = os.environ.get(variable, "")
    base = Path(value) if os.path.isabs(value) else Path.home() / fallback
    return base / "finetune-operator"


def cache() -> Path:
    """Downloads, binaries, images: worth keeping, safe to delete when the cluster is down."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def state() -> Path:
    """One running cluster: process ids, keys, etcd's data, logs, volumes. `down` deletes it."""
    return _xdg("XDG_STATE_HOME", ".local/state") / "cluster"


def kubeconfig() -> Path:
    return state() / "kubeconfig"


def binaries() -> Path:
    return cache() / "bin"


def registry_storage() -> Path:
    return cache() / "registry"


def containerd_root() -> Path:
    return cache() / "containerd"


def podman_root() -> Path:
    return cache() / "podman"


def podman_run() -> Path:
    """Mount counts and locks, which must not survive a reboot."""
    return Path("/run/finetune-operator-podman")


def images() -> Path:
    """One empty file per image built, named by its content key and touched when used."""
    return cache() / "images"


def uv_cache() -> Path:
    return cache() / "uv-cache"
