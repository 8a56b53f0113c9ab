"""What the tests share: a home for the client's caches, and names nobody else uses."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from hub.fixture import HubServer

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def quiet_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """No token of the person who runs the tests may reach the server or decide a test."""
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def writer(hub_server: HubServer) -> HfApi:
    return hub_server.api(hub_server.write_token)


@pytest.fixture
def repo(writer: HfApi) -> Iterator[str]:
    """A fresh public model repository."""
    name = f"acme/model-{next(_numbers)}"
    writer.create_repo(name)
    yield name
    writer.delete_repo(name, missing_ok=True)


@pytest.fixture
def fetch(hub_server: HubServer, tmp_path: Path) -> Any:
    """Download one file with an empty cache and return its bytes."""

    def download(repo: str, path: str, token: str | bool = False, **options: Any) -> bytes:
        cache = tmp_path / f"cache-{next(_numbers)}"
        file = hub_server.api(token).hf_hub_download(repo, path, cache_dir=cache, **options)
        return Path(file).read_bytes()

    return download
