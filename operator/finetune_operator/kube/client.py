"""Calls to the API server: JSON in, JSON out, errors by kind.

A narrow adapter on the official client; its typed models are not used, they cost more than the
calls. What to call and when is the runtime's matter.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration

from finetune_operator.kube import errors
from finetune_operator.kube.resources import EVENTS, TOKEN_REVIEWS, Resource
from finetune_operator.kube.retry import delay_before_retry

Json = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"
TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=10)
# A page is in memory as a whole, and its objects may be large.
PAGE = 50
METHODS = {"get": "GET", "list": "GET", "create": "POST", "patch": "PATCH", "delete": "DELETE"}


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was answered, or not: `code` is then 0."""

    verb: str
    resource: str
    code: int
    seconds: float


def _unseen(_: Call) -> None:
    """Nobody counts the calls."""


class Client:
    """One connection pool to one API server; `seen` is told of every call, repeated ones too."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        user_agent: str,
        seen: Callable[[Call], None] = _unseen,
    ) -> None:
        self._api = ApiClient(configuration)
        self._user_agent = user_agent
        self._seen = seen

    async def close(self) -> None:
        await self._api.close()

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Json:
        return await self._call("get", resource, resource.path(namespace, name))

    async def create(self, resource: Resource, namespace: str | None, body: Json) -> Json:
        return await self._call("create", resource, resource.path(namespace), body=body)

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str, propagation: str
    ) -> None:
        """Delete the object with this uid; a later one of the same name is left alone."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": propagation}
        await self._call("delete", resource, resource.path(namespace, name), body=body)

    async def patch(self, resource: Resource, namespace: str, name: str, patch: Json) -> Json:
        """Merge `patch` into the object."""
        path = resource.path(namespace, name)
        return await self._call("patch", resource, path, body=patch, content_type=MERGE_PATCH)

    async def patch_status(
        self, resource: Resource, namespace: str, name: str, patch: Json
    ) -> Json:
        """Merge `patch` into the object through its status subresource."""
        path = resource.path(namespace, name, "status")
        return await self._call("patch", resource, path, body=patch, content_type=MERGE_PATCH)

    async def list_page(
        self, resource: Resource, namespace: str | None = None, **query: str
    ) -> Json:
        """One page as the server gives it, with its `metadata.continue` and `resourceVersion`."""
        return await self._call("list", resource, resource.path(namespace), query=query)

    async def list_pages(
        self, resource: Resource, namespace: str | None = None, **query: str
    ) -> AsyncIterator[Json]:
        """Every page of a consistent list."""
        query = {"limit": str(PAGE), **query}
        while True:
            page = await self.list_page(resource, namespace, **query)
            yield page
            token = page["metadata"].get("continue")
            if not token:
                return
            query["continue"] = token

    async def create_event(self, namespace: str, event: Json) -> None:
        await self.create(EVENTS, namespace, event)

    async def review_token(self, token: str, audience: str) -> Json:
        """The status of a TokenReview: who the bearer is, if it is meant for this audience."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        answer = await self._call("create", TOKEN_REVIEWS, TOKEN_REVIEWS.path(), body=body)
        status = answer.get("status")
        return status if isinstance(status, dict) else {}

    async def _call(
        self,
        verb: str,
        resource: Resource,
        path: str,
        *,
        body: Json | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Json:
        """One call, repeated while that can help.

        Repeating a POST is safe: names are deterministic, so a first one that did arrive shows as
        AlreadyExists.
        """
        attempt = 1
        while True:
            start, code = time.monotonic(), 0
            try:
                code, document = await self._call_once(
                    METHODS[verb], path, body, query, content_type
                )
                return document
            except errors.ApiError as error:
                code = error.status
                delay = delay_before_retry(error, attempt, random.random())
                if delay is None:
                    raise
            finally:
                self._seen(Call(verb, resource.plural, code, time.monotonic() - start))
            await asyncio.sleep(delay)
            attempt += 1

    async def _call_once(
        self,
        method: str,
        path: str,
        body: Json | None,
        query: Mapping[str, str] | None,
        content_type: str,
    ) -> tuple[int, Json]:
        headers = {
            "Accept": "application/json",
            "Content-Type": content_type,
            "User-Agent": self._user_agent,
        }
        await self._api.update_params_for_auth(
            headers, [], ["BearerToken"], path, method, body, request_auth=None
        )
        url = self._api.configuration.host + path
        if query:
            url += "?" + urlencode(query)
        try:
            answer = await self._api.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=TIMEOUT
            )
            content = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise errors.Transient(f"No answer from the API server: {reason}") from error
        if answer.status >= 400:
            raise errors.from_answer(answer.status, content, answer.getheader("Retry-After"))
        return answer.status, _object(content, f"{method} {path}")


def _object(content: bytes, call: str) -> Json:
    try:
        document = json.loads(content)
    except ValueError as error:
        raise errors.Transient(f"{call} was answered with no JSON: {error}") from error
    except RecursionError as error:
        # Whoever may write an object without a closed schema may have nested it without end.
        raise errors.ApiError(f"{call} was answered with an object nested too deep") from error
    if not isinstance(document, dict):
        raise errors.Transient(f"{call} was not answered with an object")
    return document
