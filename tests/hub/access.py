"""What every route asks first: which repository, who is calling, may they.

Belongs here: reading the caller and the address from a request and refusing. Does not: answers.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from . import errors
from .storage import Commit, Repo, RepoType, Storage, StorageError
from .tokens import Identity, TokenStore


@dataclass
class Hub:
    """What the routes share."""

    storage: Storage
    tokens: TokenStore
    multipart_above: int
    locks: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    def lock(self, repo_type: RepoType, repo_id: str) -> asyncio.Lock:
        """Held while a reference is read, decided upon and moved."""
        return self.locks[f"{repo_type}s/{repo_id}"]


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
HUB = web.AppKey("hub", Hub)


def hub_of(request: web.Request) -> Hub:
    return request.app[HUB]


def identify(request: web.Request) -> Identity | None:
    """The caller, None when no token was sent; a wrong token is refused everywhere."""
    header = request.headers.get("Authorization")
    if header is None:
        return None
    kind, _, token = header.partition(" ")
    identity = hub_of(request).tokens.find(token) if kind.lower() == "bearer" else None
    if identity is None:
        raise errors.bad_token()
    return identity


def writer(request: web.Request, namespace: str) -> Identity:
    identity = identify(request)
    if identity is None:
        raise errors.token_needed()
    if not identity.may_write:
        raise errors.write_token_needed()
    if not identity.reaches(namespace):
        raise errors.namespace_forbidden(namespace)
    return identity


def address(request: web.Request) -> tuple[RepoType, str]:
    """The repository a path names: `/api/models/O/N…`, `/datasets/O/N/…`, `/O/N/…`."""
    match = request.match_info
    repo_type: RepoType = "dataset" if match.get("kind", "").startswith("dataset") else "model"
    return repo_type, f"{match['owner']}/{match['name']}"


def readable(request: web.Request, contents: bool = False) -> Repo:
    """The repository if the caller may see it, and its files too with `contents`."""
    repo_type, repo_id = address(request)
    identity = identify(request)
    repo = hub_of(request).storage.find(repo_type, repo_id)
    member = identity is not None and identity.reaches(repo_id.split("/")[0])
    if repo is None or (repo.private and not member):
        raise errors.repo_not_found(authenticated=identity is not None)
    if contents and repo.gated and not member:
        raise errors.gated(repo_id, authenticated=identity is not None)
    return repo


def writable(request: web.Request) -> tuple[Repo, Identity]:
    """The repository if the caller may change it."""
    repo = readable(request)
    return repo, writer(request, repo.id.split("/")[0])


def resolve(request: web.Request, repo: Repo, revision: str) -> Commit:
    commit = hub_of(request).storage.resolve(repo, revision)
    if commit is None:
        raise errors.revision_not_found(revision)
    return commit


async def json_body(request: web.Request) -> dict[str, object]:
    try:
        document = await request.json()
    except ValueError:
        raise errors.bad_request("the request body must be JSON") from None
    if not isinstance(document, dict):
        raise errors.bad_request("the request body must be a JSON object")
    return document


def origin(request: web.Request) -> str:
    """The address under which the caller reached this server: links in answers must work there."""
    scheme = request.headers.get("X-Forwarded-Proto", request.scheme)
    return f"{scheme}://{request.host}"


@web.middleware
async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn a HubError into the answer the client understands."""
    try:
        return await handler(request)
    except StorageError as error:
        refusal = errors.bad_request(str(error))
    except errors.HubError as error:
        refusal = error
    except web.HTTPException as error:
        refusal = errors.HubError(error.status, f"{error.reason}: {request.path}")
        refusal.headers.update({k: v for k, v in error.headers.items() if k == "Allow"})
    # A header is one line, whatever a path in the message holds.
    headers = {"X-Error-Message": " ".join(refusal.message.split()), **refusal.headers}
    if refusal.code is not None:
        headers["X-Error-Code"] = refusal.code
    body = {"error": refusal.message, **refusal.extra}
    return web.json_response(body, status=refusal.status, headers=headers)
