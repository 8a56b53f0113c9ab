"""Tokens, visibility and refusals, as the exceptions of the real client."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hub.fixture import TOKENS, HubServer


def test_whoami(hub_server: HubServer) -> None:
    who = hub_server.api(hub_server.read_token).whoami()
    assert (who["name"], who["auth"]["accessToken"]["role"]) == ("reader", "read")


def test_an_unknown_token_is_named_as_such(hub_server: HubServer, repo: str) -> None:
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        hub_server.api("hf_wrong").whoami()
    with pytest.raises(HfHubHTTPError, match="Invalid credentials") as caught:
        hub_server.api("hf_wrong").model_info(repo)
    assert caught.value.response.status_code == 401


def test_private_repositories_hide(hub_server: HubServer, writer: HfApi, fetch: Any) -> None:
    writer.create_repo("acme/secret", private=True, exist_ok=True)
    writer.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="acme/secret")
    assert writer.model_info("acme/secret").private is True
    assert fetch("acme/secret", "x.txt", hub_server.read_token) == b"x"
    for token in (False, hub_server.outsider_token):
        with pytest.raises(RepositoryNotFoundError):
            hub_server.api(token).model_info("acme/secret")
        with pytest.raises(RepositoryNotFoundError):
            fetch("acme/secret", "x.txt", token)
    assert "acme/secret" not in [m.id for m in hub_server.api(False).list_models()]
    writer.update_repo_settings("acme/secret", private=False)
    assert fetch("acme/secret", "x.txt") == b"x"


def test_gated_repositories_show_but_do_not_serve(
    hub_server: HubServer, writer: HfApi, repo: str, fetch: Any
) -> None:
    writer.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo)
    writer.update_repo_settings(repo, gated="auto")
    assert hub_server.api(False).model_info(repo).gated == "auto"
    for token in (False, hub_server.outsider_token):
        with pytest.raises(GatedRepoError):
            fetch(repo, "x.txt", token)
    assert fetch(repo, "x.txt", hub_server.read_token) == b"x"


@pytest.mark.parametrize("who", ["read_token", "outsider_token"])
def test_writing_needs_the_right_token(hub_server: HubServer, repo: str, who: str) -> None:
    api = hub_server.api(getattr(hub_server, who))
    with pytest.raises(HfHubHTTPError, match="403 Forbidden") as caught:
        api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo)
    assert caught.value.response.status_code == 403
    with pytest.raises(HfHubHTTPError, match="403 Forbidden"):
        api.create_repo("acme/other")
    with pytest.raises(HfHubHTTPError, match="403 Forbidden"):
        api.delete_repo(repo)


def test_writing_without_a_token(hub_server: HubServer, repo: str) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        hub_server.api(False).upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo)
    assert caught.value.response.status_code == 401


def test_what_is_missing_has_its_own_exception(repo: str, fetch: Any) -> None:
    with pytest.raises(EntryNotFoundError):
        fetch(repo, "none.txt")
    with pytest.raises(RevisionNotFoundError):
        fetch(repo, "none.txt", revision="none")
    with pytest.raises(RevisionNotFoundError):
        fetch(repo, "none.txt", revision="0" * 40)
    with pytest.raises(RepositoryNotFoundError):
        fetch("acme/none", "none.txt")


def test_the_token_file_may_be_replaced(hub_server: HubServer) -> None:
    new = hub_server.token_file.with_suffix(".new")
    new.write_text(json.dumps({**TOKENS, "hf_new": {"name": "late", "scope": "read"}}))
    new.replace(hub_server.token_file)
    assert hub_server.api("hf_new").whoami()["name"] == "late"
    hub_server.token_file.write_text("{broken")
    assert hub_server.api("hf_new").whoami()["name"] == "late"
    hub_server.token_file.write_text(json.dumps(TOKENS))
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        hub_server.api("hf_new").whoami()


def test_injected_faults_are_retried_by_the_client(
    hub_server: HubServer, repo: str, fetch: Any
) -> None:
    headers = {"Authorization": f"Bearer {hub_server.write_token}"}
    fault = {"prefix": f"/{repo}/resolve", "status": 429, "times": 2, "retryAfter": 0}
    url = f"{hub_server.endpoint}/admin/faults"
    assert httpx2.post(url, json=fault).status_code == 401
    assert httpx2.post(url, json=fault, headers=headers).json()[0]["times"] == 2
    assert b"filter=lfs" in fetch(repo, ".gitattributes")
    assert f"/{repo}/resolve/main/.gitattributes 429" in hub_server.log.read_text()
    assert httpx2.delete(url, headers=headers).json() == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/models/{repo}/preupload/main", b"no json"),
        ("/api/models/{repo}/preupload/main", b'{"files": [{"path": "x"}]}'),
        ("/api/models/{repo}/commit/main", b"no json"),
        ("/api/models/{repo}/commit/main", b'{"key": "header", "value": {}}'),
        ("/api/models/{repo}/commit/main", b'{"key": "file", "value": {"path": "x"}}'),
        ("/{repo}.git/info/lfs/objects/batch", b'{"operation": "upload", "objects": [1]}'),
        ("/{repo}.git/info/lfs/objects/batch", b'{"operation": "upload"}'),
    ],
)
def test_malformed_requests_are_named_as_such(
    hub_server: HubServer, repo: str, path: str, body: bytes
) -> None:
    headers = {"Authorization": f"Bearer {hub_server.write_token}"}
    url = hub_server.endpoint + path.format(repo=repo)
    answer = httpx2.post(url, content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.headers["X-Error-Message"] == " ".join(answer.json()["error"].split())
