"""Start and stop: credentials, first list, certificate, then kopf until a signal comes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import kopf

from finetune_operator.config import Config
from finetune_operator.core.model import Platform, Settings
from finetune_operator.kube import auth
from finetune_operator.kube.client import Client
from finetune_operator.kube.errors import ApiError, Denied, NotFound, Transient
from finetune_operator.runtime import certificate, serving
from finetune_operator.runtime.certificate import Certificate
from finetune_operator.runtime.engine import Engine
from finetune_operator.runtime.exposition import Exposition
from finetune_operator.runtime.meter import Meter
from finetune_operator.shell import handlers, watches
from finetune_operator.shell import settings as kopf_settings
from finetune_operator.vocabulary import MANAGER

log = logging.getLogger(__name__)

T = TypeVar("T")
FIRST_DELAY, LONGEST_DELAY = 1.0, 15.0


class StartError(Exception):
    """The operator cannot start; the message says what is missing."""


async def run(config: Config) -> None:
    """Run the operator until it is told to stop."""
    credentials = await auth.load(config.kubeconfig)
    meter = Meter()
    client = Client(credentials.configuration, user_agent=MANAGER, seen=meter.called)
    refresh = asyncio.create_task(credentials.keep_fresh(), name="credentials")
    try:
        with tempfile.TemporaryDirectory(prefix="finetune-operator-") as scratch:
            await _run(config, credentials, client, meter, Path(scratch))
    finally:
        refresh.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await refresh
        await client.close()


async def _run(
    config: Config, credentials: auth.Credentials, client: Client, meter: Meter, scratch: Path
) -> None:
    namespace = auth.own_namespace() if credentials.in_cluster else None
    url = _progress_url(config, namespace)
    served = await _certificate(config, client, namespace, url) if url else None
    settings = Settings(
        trainer_image=config.trainer_image,
        hub_endpoint=config.hub_endpoint,
        allow_cpu=config.allow_cpu,
        progress_url=url,
        progress_ca=served.authority if served else None,
        platform=Platform(
            storage_class=config.storage_class,
            node_selector=config.node_selector,
            priority_class=config.priority_class,
            max_gpus=config.max_gpus,
            image_registries=config.image_registries,
        ),
    )
    engine = Engine(
        client,
        settings,
        namespaces=config.namespaces,
        workers=config.workers,
        meter=meter,
    )
    meter.follow(
        depth=engine.queue.waiting,
        expected=len(watches.expected(config.namespaces)),
        missing=lambda: watches.missing(config.namespaces),
    )
    exposition = Exposition(meter.registry)
    try:
        await _expose(exposition, config.metrics_port)
        await _start(engine)
        if served is not None:
            await engine.serve_progress(config.progress_port, certificate.context(served, scratch))
        _spare_the_collector()
        log.info(
            "Ready: %s, trainer image %s, progress %s",
            f"namespaces {', '.join(config.namespaces)}" if config.namespaces else "all namespaces",
            config.trainer_image,
            url or "off",
        )
        await _watch(config, handlers.registry(engine, credentials, config.namespaces))
    finally:
        await engine.stop()
        await exposition.stop()


async def _expose(exposition: Exposition, port: int) -> None:
    if not port:
        return
    try:
        await exposition.start(port)
    except OSError as error:
        raise StartError(
            f"/metrics cannot listen on port {port}: {error.strerror}. Set FINETUNE_METRICS_PORT "
            "to another, or to 0 for none."
        ) from error


async def _watch(config: Config, registry: kopf.OperatorRegistry) -> None:
    """Let kopf watch until a signal comes. WatchDied if it does not do so any more."""
    listening = asyncio.create_task(
        kopf.operator(
            registry=registry,
            settings=kopf_settings.make(),
            clusterwide=not config.namespaces,
            namespaces=config.namespaces,
            liveness_endpoint=(
                f"http://0.0.0.0:{config.health_port}/healthz" if config.health_port else None
            ),
        )
    )
    guard = asyncio.create_task(watches.until_one_dies(config.namespaces))
    await asyncio.wait((listening, guard), return_when=asyncio.FIRST_COMPLETED)
    if listening.done():
        guard.cancel()
        return listening.result()
    # Not by kopf's stop_flag: it would be waited for five seconds at every end.
    listening.cancel()
    await asyncio.wait((listening,))
    raise watches.WatchDied(f"{guard.result()} is not watched any more: the log says why.")


async def _start(engine: Engine) -> None:
    try:
        await _patiently(engine.start)
    except NotFound as error:
        raise StartError(
            "The cluster does not know FineTuneJobs: run kubectl apply -f crds/finetunejobs.yaml"
        ) from error
    except Denied as error:
        raise StartError(
            f"Rights are missing: {error.message}. They are in manifests/base/rbac.yaml, and in "
            "the chart."
        ) from error
    except ApiError as error:
        raise StartError(f"The first list failed: {error.message}") from error


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """What the call returns once the API server answers: who ends is started ever more seldom."""
    delay = FIRST_DELAY
    while True:
        try:
            return await call()
        except Transient as error:
            log.warning("Cannot start yet, again in %.0f s: %s", delay, error)
            await asyncio.sleep(delay)
            delay = min(LONGEST_DELAY, 2 * delay)


def _progress_url(config: Config, namespace: str | None) -> str | None:
    if config.progress_url is not None or namespace is None:
        return config.progress_url
    return f"https://{MANAGER}.{namespace}.svc:{config.progress_port}"


async def _certificate(
    config: Config, client: Client, namespace: str | None, url: str
) -> Certificate:
    hosts = serving.service_hosts(namespace) if namespace else []
    host = urlsplit(url).hostname
    if host and host not in hosts:
        hosts.append(host)
    if namespace is None:
        return serving.from_directory(config.tls_directory, hosts)
    try:
        return await _patiently(
            lambda: serving.from_secret(client, namespace, config.tls_directory, hosts)
        )
    except Denied as error:
        raise StartError(
            f"Secret {serving.SECRET} cannot be made: {error.message}. The right is in "
            "manifests/base/rbac.yaml."
        ) from error


def _spare_the_collector() -> None:
    # One full collection of a large store would stop the event loop for a fifth of a second.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
