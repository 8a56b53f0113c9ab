"""The Xet road for uploads: since 2.x the client takes it for large files whenever `hf_xet` is
installed, without asking the server, so a Hub that wants such clients must offer it.

Uploaded xorbs are unpacked and kept; a shard turns them into the same sha256 blobs that Git LFS
makes. Downloads never take this road: no answer of this server carries a Xet hash.
Does not belong here: the formats.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import mmap
import time
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from . import errors
from .access import Hub, hub_of, origin, readable, resolve, writable
from .routes_uploads import receive, sign
from .storage import CHUNK, SHA256, Storage
from .xet import FileRecipe, FormatError, shard_files, xorb_chunks

TOKEN_SECONDS = 3600
UNPACKING = web.AppKey("unpacking", asyncio.Semaphore)


def instance(hub: Hub) -> str:
    """Clients remember per address what a server holds: an emptied server needs another address."""
    return sign(hub, "xet-instance")[:16]


async def token(request: web.Request) -> web.Response:
    writing = request.match_info["scope"] == "write"
    repo = writable(request)[0] if writing else readable(request, contents=True)
    resolve(request, repo, request.match_info["rev"])
    hub, expires = hub_of(request), int(time.time()) + TOKEN_SECONDS
    access = f"{expires}.{sign(hub, 'xet', request.match_info['scope'], str(expires))}"
    url = f"{origin(request)}/xet/{instance(hub)}"
    headers = {
        "X-Xet-Cas-Url": url,
        "X-Xet-Access-Token": access,
        "X-Xet-Token-Expiration": str(expires),
    }
    body = {"casUrl": url, "accessToken": access, "exp": expires}
    return web.json_response(body, headers=headers)


def check_token(request: web.Request) -> Storage:
    hub = hub_of(request)
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    expires, _, signature = given.partition(".")
    valid = hmac.compare_digest(signature, sign(hub, "xet", "write", expires))
    if not valid or int(expires) < time.time():
        raise errors.HubError(401, "The Xet token is not valid or has expired")
    if request.match_info["instance"] != instance(hub):
        raise errors.HubError(404, "The Xet address belongs to another server")
    return hub.storage


def xorb_paths(storage: Storage, name: str) -> tuple[Path, Path]:
    if not SHA256.fullmatch(name):
        raise errors.bad_request("a xorb is named by 64 hexadecimal digits")
    folder = storage.root / "xorbs" / name[:2]
    return folder / name, folder / f"{name}.json"


def unpack(storage: Storage, packed: Path, name: str) -> None:
    data, index = xorb_paths(storage, name)
    data.parent.mkdir(parents=True, exist_ok=True)
    ends, total = [0], 0
    with storage.scratch() as plain, storage.scratch() as offsets:
        with (
            packed.open("rb") as source,
            mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            plain.open("wb") as target,
        ):
            view = memoryview(mapped)
            try:
                for chunk in xorb_chunks(view):
                    target.write(chunk)
                    total += len(chunk)
                    ends.append(total)
            finally:
                view.release()
        offsets.write_text(json.dumps(ends))
        plain.replace(data)
        # Last, because its presence says that the xorb is complete.
        offsets.replace(index)


async def put_xorb(request: web.Request) -> web.Response:
    storage, name = check_token(request), request.match_info["hash"]
    if xorb_paths(storage, name)[1].exists():
        # Its sender hears nothing before all of it is sent; `read` would refuse what is large.
        async for _ in request.content.iter_chunked(CHUNK):
            pass
        return web.json_response({"was_inserted": False})
    with storage.scratch() as path:
        _, size = await receive(request, path)
        if size == 0:
            raise errors.bad_request("a xorb may not be empty")
        async with request.app[UNPACKING]:
            try:
                await asyncio.to_thread(unpack, storage, path, name)
            except FormatError as error:
                raise errors.bad_request(str(error)) from None
    return web.json_response({"was_inserted": True})


def assemble(storage: Storage, recipe: FileRecipe) -> str:
    """Write the file a recipe describes as a blob; its sha256."""
    if recipe.sha256 is not None and storage.blob_size(recipe.sha256) == recipe.size:
        return recipe.sha256
    digest = hashlib.sha256()
    with storage.scratch() as path:
        with path.open("wb") as file:
            for segment in recipe.segments:
                data, index = xorb_paths(storage, segment.xorb)
                if not index.exists():
                    raise errors.bad_request(f"xorb {segment.xorb} was not uploaded")
                ends = json.loads(index.read_text())
                if not segment.start <= segment.end < len(ends):
                    raise errors.bad_request(f"xorb {segment.xorb} has no such chunks")
                left = ends[segment.end] - ends[segment.start]
                with data.open("rb") as source:
                    source.seek(ends[segment.start])
                    while left and (chunk := source.read(min(CHUNK, left))):
                        digest.update(chunk)
                        file.write(chunk)
                        left -= len(chunk)
        sha256 = digest.hexdigest()
        if recipe.sha256 not in (None, sha256):
            raise errors.bad_request(f"the file assembled is {sha256}, not {recipe.sha256}")
        storage.adopt_blob(path, sha256)
    return sha256


async def put_shard(request: web.Request) -> web.Response:
    storage = check_token(request)
    shard = await request.read()
    try:
        recipes = list(shard_files(shard))
    except (FormatError, ValueError) as error:
        raise errors.bad_request(str(error)) from None
    async with request.app[UNPACKING]:
        for recipe in recipes:
            await asyncio.to_thread(partial(assemble, storage, recipe))
    return web.json_response({"result": 1})


async def unknown_chunk(request: web.Request) -> web.Response:
    """Deduplication across repositories is an offer; this server makes none."""
    check_token(request)
    raise errors.HubError(404, "chunk not known")


def install(app: web.Application) -> None:
    # Unpacking is pure Python: two at a time would only take turns.
    app[UNPACKING] = asyncio.Semaphore(1)
    router: Any = app.router
    repo = "/api/{kind:models|datasets}/{owner}/{name}"
    router.add_get(repo + "/xet-{scope:read|write}-token/{rev}", token)
    cas = "/xet/{instance}/v1"
    router.add_post(cas + "/xorbs/{prefix}/{hash}", put_xorb)
    router.add_post(cas + "/shards", put_shard)
    router.add_get(cas + "/chunks/{prefix}/{hash}", unknown_chunk)
