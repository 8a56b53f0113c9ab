"""Writing: preupload, Git LFS objects, and the commit that refers to them.

Bodies are streamed to disk and hashed on the way; memory stays bounded whatever the file's size.
Does not belong here: the Xet protocol, which ends in the same blobs by another road.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aiohttp import web

from . import errors
from .access import Hub, address, hub_of, json_body, origin, readable, resolve, writable
from .routes_repos import url_of
from .storage import CHUNK, Commit, Entry, Repo, Storage, StorageError, check_path, read_chunks

REGULAR_LIMIT = 10 * CHUNK
# fmt: off
LARGE_SUFFIXES = (
    ".7z", ".arrow", ".bin", ".bz2", ".ckpt", ".ftz", ".gguf", ".gz", ".h5", ".joblib", ".model",
    ".msgpack", ".npy", ".npz", ".onnx", ".ot", ".parquet", ".pb", ".pickle", ".pkl", ".pt",
    ".pth", ".rar", ".safetensors", ".tar", ".tflite", ".tgz", ".wasm", ".xz", ".zip", ".zst",
)
# fmt: on


def upload_mode(path: str, size: int, sample: bytes) -> str:
    large = size > REGULAR_LIMIT or path.lower().endswith(LARGE_SUFFIXES)
    return "lfs" if size > 0 and (large or b"\0" in sample) else "regular"


def wanted_files(body: dict[str, Any], *fields: str) -> list[dict[str, Any]]:
    """The list of files in a request, each with the fields it must have."""
    files = next((body[key] for key in ("files", "objects") if key in body), None)
    whole = isinstance(files, list) and all(
        isinstance(file, dict) and all(field in file for field in fields) for file in files
    )
    if not whole or not all(isinstance(file["size"], int) for file in files or []):
        raise errors.bad_request(f"a list of files, each with {' and '.join(fields)}, is needed")
    return files or []


async def preupload(request: web.Request) -> web.Response:
    repo, _ = writable(request)
    commit = branch_head(request, repo, request.match_info["rev"])
    answer = []
    for file in wanted_files(await json_body(request), "path", "size"):
        path, sample = str(file["path"]), base64.b64decode(file.get("sample", ""))
        known = commit.files.get(path)
        answer.append(
            {
                "path": path,
                "uploadMode": upload_mode(path, file["size"], sample),
                "shouldIgnore": False,
                "oid": known.etag if known else None,
            }
        )
    return web.json_response({"files": answer})


# Git LFS


def sign(hub: Hub, *parts: str) -> str:
    """The client sends no token to an upload link, so the link itself is the permission."""
    return hmac.new(hub.storage.secret, "\n".join(parts).encode(), hashlib.sha256).hexdigest()


def check_signature(request: web.Request, *parts: str) -> None:
    if not hmac.compare_digest(request.query.get("signature", ""), sign(hub_of(request), *parts)):
        raise errors.HubError(403, "The upload link is not valid")


def upload_action(request: web.Request, oid: str, size: int) -> dict[str, Any]:
    hub, base = hub_of(request), f"{origin(request)}/lfs/{oid}"
    signature = sign(hub, oid, str(size))
    if size <= hub.multipart_above:
        return {"href": f"{base}?size={size}&signature={signature}"}
    step = hub.multipart_above
    header = {"chunk_size": str(step)}
    for number in range(1, -(-size // step) + 1):
        part = sign(hub, oid, str(size), str(number))
        header[f"{number:05}"] = f"{base}/{number}?size={size}&signature={part}"
    return {"href": f"{base}/complete?size={size}&signature={signature}", "header": header}


async def lfs_batch(request: web.Request) -> web.Response:
    body: Any = await json_body(request)
    upload = body.get("operation") == "upload"
    repo = writable(request)[0] if upload else readable(request, contents=True)
    storage = hub_of(request).storage
    objects: list[dict[str, Any]] = []
    for wanted in wanted_files(body, "oid", "size"):
        oid, size = str(wanted["oid"]), wanted["size"]
        answer: dict[str, Any] = {"oid": oid, "size": size}
        if not upload:
            # Files are downloaded from their path in a repository, where visibility is checked.
            answer["error"] = {"code": 404, "message": "download files by their path"}
        elif storage.blob_size(oid) != size:
            verify = f"{url_of(request, repo.type, repo.id)}.git/info/lfs/verify"
            actions = {"upload": upload_action(request, oid, size), "verify": {"href": verify}}
            answer |= {"authenticated": True, "actions": actions}
        objects.append(answer)
    return web.json_response(
        {"transfer": "basic", "objects": objects, "hash_algo": "sha256"},
        content_type="application/vnd.git-lfs+json",
    )


async def receive(request: web.Request, path: Path) -> tuple[str, int]:
    """Write the body to a file; its sha256 and size."""
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        async for chunk in request.content.iter_chunked(CHUNK):
            # One hop to a thread per megabyte: hashing and writing must not stall other requests.
            await asyncio.to_thread(_store, file, digest, chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def _store(file: Any, digest: Any, chunk: bytes) -> None:
    digest.update(chunk)
    file.write(chunk)


async def lfs_put(request: web.Request) -> web.Response:
    oid, size = request.match_info["oid"], request.query.get("size", "")
    check_signature(request, oid, size)
    storage = hub_of(request).storage
    with storage.scratch() as path:
        received = await receive(request, path)
        await asyncio.to_thread(keep, storage, path, oid, int(size), received)
    return web.Response(headers={"ETag": f'"{oid}"'})


def keep(storage: Storage, path: Path, oid: str, size: int, received: tuple[str, int]) -> None:
    if received != (oid, size):
        raise errors.bad_request(f"the body is not the object {oid} of {size} bytes")
    storage.adopt_blob(path, oid)


def part_path(storage: Storage, oid: str, number: int) -> Path:
    return storage.root / "tmp" / f"{oid}.{number}"


async def lfs_put_part(request: web.Request) -> web.Response:
    oid, number = request.match_info["oid"], request.match_info["part"]
    check_signature(request, oid, request.query.get("size", ""), number)
    storage = hub_of(request).storage
    storage.blob_path(oid)
    with storage.scratch() as path:
        digest, _ = await receive(request, path)
        path.replace(part_path(storage, oid, int(number)))
    return web.Response(headers={"ETag": f'"{digest}"'})


async def lfs_complete(request: web.Request) -> web.Response:
    oid, size = request.match_info["oid"], request.query.get("size", "")
    check_signature(request, oid, size)
    storage = hub_of(request).storage
    listed = (await json_body(request)).get("parts")
    count = len(listed) if isinstance(listed, list) else 0
    parts = [part_path(storage, oid, number) for number in range(1, count + 1)]

    def join() -> None:
        digest, total = hashlib.sha256(), 0
        with storage.scratch() as path:
            with path.open("wb") as file:
                for part in parts:
                    with part.open("rb") as piece:
                        for chunk in read_chunks(piece):
                            _store(file, digest, chunk)
                            total += len(chunk)
            keep(storage, path, oid, int(size), (digest.hexdigest(), total))
        for part in parts:
            part.unlink()

    if not parts or not all(part.exists() for part in parts):
        raise errors.bad_request(f"parts of object {oid} are missing")
    await asyncio.to_thread(join)
    return web.json_response({})


async def lfs_verify(request: web.Request) -> web.Response:
    body = await json_body(request)
    writable(request)
    if hub_of(request).storage.blob_size(str(body.get("oid"))) != body.get("size"):
        raise errors.HubError(404, f"LFS object {body.get('oid')} was not uploaded")
    return web.json_response({})


# The commit


def branch_head(request: web.Request, repo: Repo, revision: str) -> Commit:
    branch = revision.removeprefix("refs/heads/")
    if branch not in repo.branches:
        raise errors.revision_not_found(revision)
    return resolve(request, repo, branch)


def parse_commit(storage: Storage, lines: Iterable[bytes]) -> tuple[dict[str, Any], list[Any]]:
    """Header and changes of an NDJSON commit; contents of regular files are stored on the way."""
    header: dict[str, Any] = {}
    changes: list[tuple[str, Entry | None]] = []
    for line in lines:
        if not line.strip():
            continue
        try:
            item = json.loads(line)
            kind, value = item["key"], item["value"]
            if kind == "header":
                header = value
            elif kind == "file":
                if value.get("encoding", "utf-8") == "base64":
                    content = base64.b64decode(value["content"])
                else:
                    content = value["content"].encode()
                changes.append((check_path(value["path"]), storage.add_bytes(content)))
            elif kind == "lfsFile":
                entry = storage.lfs_entry(value["oid"], value.get("size"))
                changes.append((check_path(value["path"]), entry))
            elif kind == "deletedFile":
                changes.append((check_path(value["path"]), None))
            elif kind == "deletedFolder":
                changes.append((check_path(value["path"].rstrip("/")) + "/", None))
            else:
                raise StorageError(f"a commit line may not be `{kind}`")
        except (KeyError, TypeError, AttributeError, UnicodeError) as error:
            raise StorageError(f"a commit line is not well formed: {error}") from None
        except (json.JSONDecodeError, binascii.Error) as error:
            raise StorageError(f"a commit line is not well formed: {error}") from None
    if not header.get("summary"):
        raise StorageError("a commit needs a header with a summary")
    return header, changes


def apply(head: Commit, changes: list[tuple[str, Entry | None]]) -> dict[str, Entry]:
    files = dict(head.files)
    for path, entry in changes:
        if entry is not None:
            files[path] = entry
        elif path.endswith("/"):
            files = {name: file for name, file in files.items() if not name.startswith(path)}
        elif files.pop(path, None) is None:
            raise errors.entry_not_found(path, head.sha)
    return files


async def commit(request: web.Request) -> web.Response:
    hub, storage = hub_of(request), hub_of(request).storage
    repo, identity = writable(request)
    if request.query.get("create_pr") in ("1", "true"):
        raise errors.bad_request("this Hub has no pull requests: commit to a branch")
    revision = request.match_info["rev"]
    branch_head(request, repo, revision)
    with storage.scratch() as path:
        await receive(request, path)
        with path.open("rb") as file:
            header, changes = await asyncio.to_thread(parse_commit, storage, file)
    async with hub.lock(*address(request)):
        repo, identity = writable(request)
        head = branch_head(request, repo, revision)
        parent = header.get("parentCommit")
        if parent is not None and not head.sha.startswith(str(parent)):
            raise errors.parent_moved()
        files = apply(head, changes)
        made = await asyncio.to_thread(
            storage.commit,
            repo,
            revision.removeprefix("refs/heads/"),
            files,
            str(header["summary"]),
            str(header.get("description") or ""),
            identity.name,
        )
    url = f"{url_of(request, repo.type, repo.id)}/commit/{made.sha}"
    body = {"success": True, "commitOid": made.sha, "commitUrl": url, "hookOutput": ""}
    return web.json_response(body)


def add_routes(router: web.UrlDispatcher) -> None:
    repo = "/api/{kind:models|datasets}/{owner}/{name}"
    router.add_post(repo + "/preupload/{rev}", preupload)
    router.add_post(repo + "/commit/{rev}", commit)
    for prefix in ("/{kind:datasets}/{owner}/{name:[^/]+}.git", "/{owner}/{name:[^/]+}.git"):
        router.add_post(prefix + "/info/lfs/objects/batch", lfs_batch)
        router.add_post(prefix + "/info/lfs/verify", lfs_verify)
    router.add_put("/lfs/{oid}", lfs_put)
    router.add_put("/lfs/{oid}/{part:[0-9]+}", lfs_put_part)
    router.add_post("/lfs/{oid}/complete", lfs_complete)
