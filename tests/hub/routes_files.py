"""Reading: trees, single paths, history, and the bytes of files with ranges.

Does not belong here: anything that changes a repository.
"""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
import re
from typing import IO, Any
from urllib.parse import quote

from aiohttp import web

from . import errors
from .access import hub_of, origin, readable, resolve
from .storage import CHUNK, Commit, Entry

TREE_PAGE = 1000
COMMITS_PAGE = 50


def describe_file(path: str, entry: Entry) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "file", "oid": entry.oid, "size": entry.size, "path": path}
    if entry.lfs:
        found["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": 134}
    return found


def describe_folder(path: str, commit: Commit) -> dict[str, Any]:
    inside = [(p, e.oid) for p, e in sorted(commit.files.items()) if p.startswith(path + "/")]
    oid = hashlib.sha1(repr(inside).encode(), usedforsecurity=False).hexdigest()
    return {"type": "directory", "oid": oid, "size": 0, "path": path}


def walk(commit: Commit, folder: str, recursive: bool) -> list[dict[str, Any]]:
    prefix = f"{folder}/" if folder else ""
    found: dict[str, dict[str, Any]] = {}
    for path, entry in commit.files.items():
        if not path.startswith(prefix):
            continue
        parts = path[len(prefix) :].split("/")
        depth = len(parts) if recursive else min(2, len(parts))
        for end in range(1, depth):
            parent = prefix + "/".join(parts[:end])
            if parent not in found:
                found[parent] = describe_folder(parent, commit)
        if recursive or len(parts) == 1:
            found[path] = describe_file(path, entry)
    return [found[path] for path in sorted(found)]


def next_link(request: web.Request, **query: str) -> dict[str, str]:
    url = f"{origin(request)}{request.rel_url.update_query(query)}"
    return {"Link": f'<{url}>; rel="next"'}


def flag(value: object) -> bool:
    return str(value).lower() in ("true", "1")


def number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isdecimal():
        raise errors.bad_request(f"`{name}` must be a number")
    return int(text)


def with_last_commit(request: web.Request, found: list[dict[str, Any]], commit: Commit) -> None:
    """Add to each entry the commit that last changed it, as `expand` asks."""
    repo = readable(request)
    waiting = {item["path"]: item for item in found}
    for step in hub_of(request).storage.history(repo, commit):
        parent = hub_of(request).storage.resolve(repo, step.parent) if step.parent else None
        before = parent.files if parent else {}
        changed = {
            p for p in step.files.keys() | before.keys() if step.files.get(p) != before.get(p)
        }
        for path in list(waiting):
            if path in changed or any(name.startswith(path + "/") for name in changed):
                last = {"id": step.sha, "title": step.title, "date": step.date}
                waiting.pop(path)["lastCommit"] = last


async def tree(request: web.Request) -> web.Response:
    repo = readable(request)
    commit = resolve(request, repo, request.match_info["rev"])
    folder = request.match_info.get("path", "").strip("/")
    found = walk(commit, folder, flag(request.query.get("recursive")))
    if folder and not found:
        raise errors.entry_not_found(folder, commit.sha)
    start = number(request, "cursor", 0)
    limit = min(number(request, "limit", TREE_PAGE), TREE_PAGE)
    page = found[start : start + limit]
    headers = {}
    if start + limit < len(found):
        headers = next_link(request, cursor=str(start + limit))
    if flag(request.query.get("expand")):
        with_last_commit(request, page, commit)
    return web.json_response(page, headers=headers)


async def paths_info(request: web.Request) -> web.Response:
    repo = readable(request)
    commit = resolve(request, repo, request.match_info["rev"])
    if request.content_type == "application/json":
        body = await request.json()
        paths, expand = body.get("paths", []), flag(body.get("expand"))
    else:
        form = await request.post()
        paths, expand = [str(path) for path in form.getall("paths", [])], flag(form.get("expand"))
    found = []
    for path in paths:
        name = path.strip("/")
        if name in commit.files:
            found.append(describe_file(name, commit.files[name]))
        elif any(other.startswith(name + "/") for other in commit.files):
            found.append(describe_folder(name, commit))
    if expand:
        with_last_commit(request, found, commit)
    return web.json_response(found)


async def commits(request: web.Request) -> web.Response:
    repo = readable(request)
    commit = resolve(request, repo, request.match_info["rev"])
    history = [
        {
            "id": step.sha,
            "title": step.title,
            "message": step.message,
            "authors": [{"user": step.author}],
            "date": step.date,
        }
        for step in hub_of(request).storage.history(repo, commit)
    ]
    page = number(request, "p", 0)
    end = (page + 1) * COMMITS_PAGE
    headers = {"X-Total-Count": str(len(history))}
    if end < len(history):
        headers |= next_link(request, p=str(page + 1))
    return web.json_response(history[page * COMMITS_PAGE : end], headers=headers)


def requested_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and length of a single range; None means the whole file."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", (header or "").strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first:
        start, end = int(first), min(int(last) if last else size - 1, size - 1)
    else:
        start, end = max(0, size - int(last)), size - 1
    if start > end:
        headers = {"Content-Range": f"bytes */{size}"}
        raise errors.HubError(416, "Requested range not satisfiable", headers=headers)
    return start, end - start + 1


async def download(request: web.Request) -> web.StreamResponse:
    """A file at a revision. Served directly: a redirect would only lead back to this server."""
    repo = readable(request, contents=True)
    commit = resolve(request, repo, request.match_info["rev"])
    path = request.match_info["path"]
    entry = commit.files.get(path)
    if entry is None:
        raise errors.entry_not_found(path, commit.sha)
    headers = {
        "ETag": f'"{entry.etag}"',
        "X-Repo-Commit": commit.sha,
        "Accept-Ranges": "bytes",
        "Content-Type": mimetypes.guess_type(path)[0] or "application/octet-stream",
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(path.rsplit('/', 1)[-1])}",
    }
    if entry.lfs:
        headers |= {"X-Linked-Size": str(entry.size), "X-Linked-ETag": f'"{entry.sha256}"'}
    part = requested_range(request.headers.get("Range"), entry.size)
    start, length = part or (0, entry.size)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{entry.size}"
    response = web.StreamResponse(status=206 if part is not None else 200, headers=headers)
    response.content_length = length
    with hub_of(request).storage.blob_path(entry.sha256).open("rb") as file:
        await response.prepare(request)
        if request.method == "GET":
            await send(response, file, start, length)
    return response


async def send(response: web.StreamResponse, file: IO[bytes], start: int, length: int) -> None:
    file.seek(start)
    while length > 0 and (chunk := await asyncio.to_thread(file.read, min(CHUNK, length))):
        await response.write(chunk)
        length -= len(chunk)
    await response.write_eof()


def add_routes(router: web.UrlDispatcher) -> None:
    repo = "/api/{kind:models|datasets}/{owner}/{name}"
    router.add_get(repo + "/tree/{rev}", tree)
    router.add_get(repo + "/tree/{rev}/{path:.*}", tree)
    router.add_post(repo + "/paths-info/{rev}", paths_info)
    router.add_get(repo + "/commits/{rev}", commits)
    for prefix in ("/{kind:datasets}/{owner}/{name}", "/{owner}/{name}"):
        router.add_get(prefix + "/resolve/{rev}/{path:.+}", download)
        router.add_get(prefix + "/raw/{rev}/{path:.+}", download)
