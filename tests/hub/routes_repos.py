"""Repositories: create, describe, list, branch, tag, delete, and the caller's own identity.

Does not belong here: the content of files, and changing it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import yaml
from aiohttp import web

from . import errors
from .access import (
    address,
    hub_of,
    identify,
    json_body,
    origin,
    readable,
    resolve,
    writable,
    writer,
)
from .storage import REFERENCE, Commit, Repo, RepoType, Storage

PAGE = 1000


def url_of(request: web.Request, repo_type: RepoType, repo_id: str) -> str:
    prefix = "datasets/" if repo_type == "dataset" else ""
    return f"{origin(request)}/{prefix}{repo_id}"


def repo_type_of(value: object) -> RepoType:
    if value in (None, "model"):
        return "model"
    if value == "dataset":
        return "dataset"
    raise errors.bad_request(f"this Hub keeps models and datasets, not `{value}`")


async def whoami(request: web.Request) -> web.Response:
    identity = identify(request)
    if identity is None:
        raise errors.token_needed()
    orgs = [{"type": "org", "name": name, "fullname": name} for name in identity.orgs or ()]
    token = {"displayName": identity.name, "role": identity.scope}
    body = {
        "type": "user",
        "id": identity.name,
        "name": identity.name,
        "fullname": identity.name,
        "orgs": orgs,
        "auth": {"type": "access_token", "accessToken": token},
    }
    return web.json_response(body)


async def create(request: web.Request) -> web.Response:
    body = await json_body(request)
    repo_type = repo_type_of(body.get("type"))
    identity = identify(request)
    if identity is None:
        raise errors.token_needed()
    namespace = str(body.get("organization") or identity.name)
    identity = writer(request, namespace)
    repo_id = f"{namespace}/{body.get('name')}"
    private = body.get("private") is True or body.get("visibility") == "private"
    url = url_of(request, repo_type, repo_id)
    hub = hub_of(request)
    async with hub.lock(repo_type, repo_id):
        if hub.storage.find(repo_type, repo_id) is not None:
            raise errors.conflict(f"You already created this {repo_type} repo", url=url)
        await asyncio.to_thread(hub.storage.create, repo_type, repo_id, private, identity.name)
    return web.json_response({"url": url, "name": repo_id, "id": repo_id})


async def delete(request: web.Request) -> web.Response:
    body = await json_body(request)
    repo_type = repo_type_of(body.get("type"))
    identity = identify(request)
    namespace = str(body.get("organization") or (identity.name if identity else ""))
    writer(request, namespace)
    repo_id = f"{namespace}/{body.get('name')}"
    hub = hub_of(request)
    async with hub.lock(repo_type, repo_id):
        repo = hub.storage.find(repo_type, repo_id)
        if repo is None:
            raise errors.repo_not_found(authenticated=True)
        await asyncio.to_thread(hub.storage.delete, repo)
    return web.json_response({})


async def settings(request: web.Request) -> web.Response:
    body = await json_body(request)
    repo_type, repo_id = address(request)
    async with hub_of(request).lock(repo_type, repo_id):
        repo, _ = writable(request)
        if "private" in body:
            repo.private = body["private"] is True
        if "visibility" in body:
            repo.private = body["visibility"] == "private"
        if "gated" in body:
            repo.gated = body["gated"] in ("auto", "manual", True)
        hub_of(request).storage.save(repo)
    return web.json_response({"private": repo.private, "gated": repo.gated})


def front_matter(text: str) -> str | None:
    """The YAML block at the top of a card."""
    lines = text.splitlines()
    if not lines or lines[0].strip() != "---":
        return None
    end = next((i for i, line in enumerate(lines[1:], 1) if line.strip() == "---"), None)
    return None if end is None else "\n".join(lines[1:end])


def card_data(storage: Storage, commit: Commit) -> dict[str, Any]:
    """The metadata of README.md; a card that is wrong is a card without metadata."""
    entry = commit.files.get("README.md")
    if entry is None:
        return {}
    block = front_matter(storage.blob_path(entry.sha256).read_text(errors="replace"))
    try:
        data = yaml.safe_load(block or "")
    except yaml.YAMLError:
        return {}
    return data if isinstance(data, dict) else {}


async def validate_card(request: web.Request) -> web.Response:
    """The client asks before it uploads a README.md."""
    content = str((await json_body(request)).get("content", ""))
    problems = []
    block = front_matter(content)
    try:
        if block is not None and not isinstance(yaml.safe_load(block), dict | None):
            problems.append({"message": "the metadata must be a YAML mapping"})
    except yaml.YAMLError as error:
        problems.append({"message": f"the metadata is not YAML: {error}"})
    body = {"errors": problems, "warnings": []}
    return web.json_response(body, status=400 if problems else 200)


def as_list(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def tags_of(repo: Repo, card: dict[str, Any], commit: Commit) -> list[str]:
    tags = as_list(card.get("tags", []))
    if repo.type == "model" and any(path.endswith(".safetensors") for path in commit.files):
        tags.append("safetensors")
    for key in ("license", "base_model", "language", "datasets"):
        prefix = {"language": "", "datasets": "dataset:"}.get(key, f"{key}:")
        tags += [f"{prefix}{value}" for value in as_list(card.get(key, []))]
    return tags


def describe(storage: Storage, repo: Repo, commit: Commit, blobs: bool) -> dict[str, Any]:
    siblings: list[dict[str, Any]] = []
    for path, entry in sorted(commit.files.items()):
        sibling: dict[str, Any] = {"rfilename": path}
        if blobs:
            sibling |= {"size": entry.size, "blobId": entry.oid}
            if entry.lfs:
                sibling["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": 134}
        siblings.append(sibling)
    card = card_data(storage, commit)
    # A date in YAML becomes a Python date; the client gets text.
    card = {str(key): _plain(value) for key, value in card.items()}
    info = {
        "_id": commit.sha[:24],
        "id": repo.id,
        "author": repo.id.split("/")[0],
        "sha": commit.sha,
        "lastModified": commit.date,
        "createdAt": repo.created,
        "private": repo.private,
        "gated": "auto" if repo.gated else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": tags_of(repo, card, commit),
        "cardData": card,
        "siblings": siblings,
        "usedStorage": sum(entry.size for entry in commit.files.values()),
    }
    if repo.type == "model":
        info |= {"modelId": repo.id}
        info |= {key: card[key] for key in ("pipeline_tag", "library_name") if key in card}
    return info


def _plain(value: object) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


async def info(request: web.Request) -> web.Response:
    repo = readable(request)
    commit = resolve(request, repo, request.match_info.get("rev", "main"))
    blobs = request.query.get("blobs", "").lower() in ("true", "1")
    return web.json_response(describe(hub_of(request).storage, repo, commit, blobs))


async def listing(request: web.Request) -> web.Response:
    """All repositories of a kind that the caller may see, by `author` and `search`."""
    storage = hub_of(request).storage
    identity = identify(request)
    repo_type: RepoType = "dataset" if request.match_info["kind"] == "datasets" else "model"
    author, search = request.query.get("author"), request.query.get("search", "").lower()
    found = []
    for repo in storage.repos(repo_type):
        namespace = repo.id.split("/")[0]
        if repo.private and not (identity and identity.reaches(namespace)):
            continue
        if author not in (None, namespace) or search not in repo.id.lower():
            continue
        commit = storage.resolve(repo, "main")
        if commit is not None:
            found.append(describe(storage, repo, commit, blobs=False))
    return web.json_response(found)


async def refs(request: web.Request) -> web.Response:
    repo = readable(request)

    def listed(kind: str, names: dict[str, str]) -> list[dict[str, str]]:
        return [
            {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha}
            for name, sha in sorted(names.items())
        ]

    branches, tags = listed("heads", repo.branches), listed("tags", repo.tags)
    body = {"branches": branches, "tags": tags, "converts": [], "pullRequests": []}
    return web.json_response(body)


def check_reference(name: str) -> str:
    if not REFERENCE.fullmatch(name):
        raise errors.bad_request(f"`{name}` is not a valid branch or tag name")
    return name


async def create_branch(request: web.Request) -> web.Response:
    body = await json_body(request) if request.can_read_body else {}
    name = check_reference(request.match_info["ref"])
    async with hub_of(request).lock(*address(request)):
        repo, _ = writable(request)
        if name in repo.branches:
            raise errors.conflict(f"Reference already exists: refs/heads/{name}")
        commit = resolve(request, repo, str(body.get("startingPoint") or "main"))
        repo.branches[name] = commit.sha
        hub_of(request).storage.save(repo)
    return web.json_response({"ref": f"refs/heads/{name}", "targetCommit": commit.sha})


async def create_tag(request: web.Request) -> web.Response:
    body = await json_body(request)
    name = check_reference(str(body.get("tag")))
    async with hub_of(request).lock(*address(request)):
        repo, _ = writable(request)
        if name in repo.tags:
            raise errors.conflict(f"Reference already exists: refs/tags/{name}")
        commit = resolve(request, repo, request.match_info["ref"])
        repo.tags[name] = commit.sha
        hub_of(request).storage.save(repo)
    return web.json_response({"ref": f"refs/tags/{name}", "targetCommit": commit.sha})


async def delete_reference(request: web.Request) -> web.Response:
    name = request.match_info["ref"]
    async with hub_of(request).lock(*address(request)):
        repo, _ = writable(request)
        names = repo.tags if "/tag/" in request.path else repo.branches
        if name not in names or name == "main":
            raise errors.revision_not_found(name)
        del names[name]
        hub_of(request).storage.save(repo)
    return web.json_response({})


def add_routes(router: web.UrlDispatcher) -> None:
    repo = "/api/{kind:models|datasets}/{owner}/{name}"
    router.add_get("/api/whoami-v2", whoami)
    router.add_post("/api/repos/create", create)
    router.add_delete("/api/repos/delete", delete)
    router.add_post("/api/validate-yaml", validate_card)
    router.add_get("/api/{kind:models|datasets}", listing)
    router.add_get(repo, info)
    router.add_get(repo + "/revision/{rev}", info)
    router.add_put(repo + "/settings", settings)
    router.add_get(repo + "/refs", refs)
    router.add_post(repo + "/branch/{ref}", create_branch)
    router.add_post(repo + "/tag/{ref}", create_tag)
    router.add_delete(repo + "/branch/{ref}", delete_reference)
    router.add_delete(repo + "/tag/{ref}", delete_reference)
