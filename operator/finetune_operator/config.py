"""The operator's own configuration: environment variables and flags, each with its reason.

Nothing about a run: that is the spec's matter.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

MOUNTED_TLS = Path("/etc/finetune-operator/tls")


class ConfigError(Exception):
    """The configuration is not usable; the message names the setting and the remedy."""


@dataclass(frozen=True, slots=True)
class Config:
    """What the operator was told."""

    trainer_image: str
    """FINETUNE_TRAINER_IMAGE: image of the stages; a FineTuneJob may name another."""

    storage_class: str | None = None
    """FINETUNE_STORAGE_CLASS: storage class of workspaces; a FineTuneJob may name another. Default:
    the cluster's default class."""

    node_selector: Mapping[str, str] = field(default_factory=dict)
    """FINETUNE_NODE_SELECTOR: labels that the nodes of all runs must have, KEY=VALUE separated by
    commas; a FineTuneJob adds others, or sets another value. Default: none."""

    priority_class: str | None = None
    """FINETUNE_PRIORITY_CLASS: priority class of the pods of runs; a FineTuneJob may name another.
    Default: the cluster's default class."""

    max_gpus: int | None = None
    """FINETUNE_MAX_GPUS: GPUs that a run may ask for over all its nodes. Default: no limit."""

    image_registries: tuple[str, ...] = ()
    """FINETUNE_IMAGE_REGISTRIES: where a FineTuneJob's own trainer image may come from, hosts or
    beginnings of paths (registry.example.com/ml), separated by commas. Default: anywhere."""

    kubeconfig: str | None = None
    """--kubeconfig: access to the cluster from outside. Default: the pod's service account, else
    $KUBECONFIG or ~/.kube/config."""

    hub_endpoint: str | None = None
    """HF_ENDPOINT: the Hub that prepare and upload talk to. Default: huggingface.co."""

    allow_cpu: bool = False
    """FINETUNE_ALLOW_CPU: true lets a pod that asked for accelerators and sees none train on the
    CPU, for clusters that only pretend to have some. Default: such an attempt fails."""

    progress_url: str | None = None
    """FINETUNE_PROGRESS_URL: where pods reach the progress endpoint, https://HOST:PORT. Default in
    a cluster: the operator's Service. Outside: none, pods do not report."""

    progress_port: int = 8443
    """FINETUNE_PROGRESS_PORT: what the progress endpoint listens on."""

    health_port: int = 8080
    """FINETUNE_HEALTH_PORT: what /healthz listens on; 0 turns it off."""

    metrics_port: int = 8081
    """FINETUNE_METRICS_PORT: what /metrics listens on; 0 turns it off."""

    tls_directory: Path = MOUNTED_TLS
    """FINETUNE_TLS_DIR: tls.crt, tls.key and ca.crt of the progress endpoint. In a cluster the
    mounted Secret; outside made at the first start."""

    namespaces: tuple[str, ...] = ()
    """FINETUNE_WATCH_NAMESPACES: names separated by commas. Default: all namespaces."""

    log_format: str = "text"
    """FINETUNE_LOG_FORMAT: text or json."""

    workers: int = 32
    """FINETUNE_WORKERS: runs that are worked on at the same time. Each waits for the API server
    most of the time; more than this made a burst of 100 no faster."""


def read(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Config:
    """The configuration from flags and environment. ConfigError if it is not usable."""
    env = os.environ if environment is None else environment
    flags = _parser().parse_args(arguments)
    image = env.get("FINETUNE_TRAINER_IMAGE", "").strip()
    if not image:
        raise ConfigError(
            "FINETUNE_TRAINER_IMAGE is not set: set it to the trainer image, for example "
            "finetune-trainer:dev."
        )
    in_cluster = flags.kubeconfig is None and "KUBERNETES_SERVICE_HOST" in env
    return Config(
        trainer_image=image,
        storage_class=env.get("FINETUNE_STORAGE_CLASS") or None,
        node_selector=labels(env.get("FINETUNE_NODE_SELECTOR", ""), "FINETUNE_NODE_SELECTOR"),
        priority_class=env.get("FINETUNE_PRIORITY_CLASS") or None,
        max_gpus=_limit(env, "FINETUNE_MAX_GPUS", 512 * 64),
        image_registries=_names(env.get("FINETUNE_IMAGE_REGISTRIES", "")),
        kubeconfig=flags.kubeconfig,
        hub_endpoint=env.get("HF_ENDPOINT") or None,
        allow_cpu=_choice(env, "FINETUNE_ALLOW_CPU", "false", ("true", "false")) == "true",
        progress_url=_url(env.get("FINETUNE_PROGRESS_URL") or None),
        progress_port=_number(env, "FINETUNE_PROGRESS_PORT", 8443, 1, 65535),
        health_port=_number(env, "FINETUNE_HEALTH_PORT", 8080, 0, 65535),
        metrics_port=_number(env, "FINETUNE_METRICS_PORT", 8081, 0, 65535),
        tls_directory=_tls_directory(env, in_cluster),
        namespaces=_names(env.get("FINETUNE_WATCH_NAMESPACES", "")),
        log_format=_choice(env, "FINETUNE_LOG_FORMAT", "text", ("text", "json")),
        workers=_number(env, "FINETUNE_WORKERS", 32, 1, 256),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="finetune-operator",
        description="Runs FineTuneJobs. Settings are environment variables: FINETUNE_TRAINER_IMAGE "
        "(required), FINETUNE_STORAGE_CLASS, FINETUNE_NODE_SELECTOR, FINETUNE_PRIORITY_CLASS, "
        "FINETUNE_MAX_GPUS, FINETUNE_IMAGE_REGISTRIES, HF_ENDPOINT, FINETUNE_ALLOW_CPU, "
        "FINETUNE_PROGRESS_URL, "
        "FINETUNE_PROGRESS_PORT, FINETUNE_HEALTH_PORT, "
        "FINETUNE_METRICS_PORT, FINETUNE_TLS_DIR, FINETUNE_WATCH_NAMESPACES, "
        "FINETUNE_LOG_FORMAT, FINETUNE_WORKERS.",
    )
    parser.add_argument(
        "--kubeconfig", metavar="FILE", help="access to the cluster when not running in it"
    )
    return parser


def _tls_directory(env: Mapping[str, str], in_cluster: bool) -> Path:
    if env.get("FINETUNE_TLS_DIR"):
        return Path(env["FINETUNE_TLS_DIR"])
    if in_cluster:
        return MOUNTED_TLS
    state = env.get("XDG_STATE_HOME") or str(Path(env.get("HOME", "/tmp")) / ".local" / "state")
    return Path(state) / "finetune-operator" / "tls"


def _url(url: str | None) -> str | None:
    if url is None:
        return None
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise ConfigError(
            f'FINETUNE_PROGRESS_URL is "{url}": it must be https://HOST:PORT, as pods reach it.'
        )
    return url.rstrip("/")


def _choice(env: Mapping[str, str], name: str, default: str, choices: tuple[str, str]) -> str:
    text = env.get(name) or default
    if text not in choices:
        raise ConfigError(f'{name} is "{text}": set it to {" or ".join(choices)}.')
    return text


def _number(env: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = env.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise ConfigError(f'{name} is "{text}": set it to a number from {least} to {most}.')
    return int(text)


def _limit(env: Mapping[str, str], name: str, most: int) -> int | None:
    return _number(env, name, 0, 0, most) if env.get(name) else None


def labels(text: str, name: str) -> dict[str, str]:
    """KEY=VALUE pairs, separated by commas. ConfigError, about the setting `name`, if it is not."""
    found = {}
    for pair in _names(text):
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise ConfigError(
                f'{name} is "{text}": set it to KEY=VALUE, several separated by commas.'
            )
        found[key] = value
    return found


def _names(text: str) -> tuple[str, ...]:
    return tuple(sorted({name.strip() for name in text.split(",") if name.strip()}))
