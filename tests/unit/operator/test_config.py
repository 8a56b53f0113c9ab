from __future__ import annotations

from pathlib import Path

import pytest

from finetune_operator.config import MOUNTED_TLS, ConfigError, read

IMAGE = {"FINETUNE_TRAINER_IMAGE": "trainer:1"}


def test_the_trainer_image_is_all_that_must_be_said() -> None:
    config = read([], IMAGE)
    assert config.trainer_image == "trainer:1"
    assert config.namespaces == ()
    assert config.progress_url is None
    assert not config.allow_cpu
    assert (config.storage_class, config.priority_class, config.node_selector) == (None, None, {})
    assert (config.max_gpus, config.image_registries) == (None, ())


def test_everything_can_be_said() -> None:
    config = read(
        ["--kubeconfig", "file"],
        {
            **IMAGE,
            "HF_ENDPOINT": "http://hub:8080",
            "FINETUNE_ALLOW_CPU": "true",
            "FINETUNE_PROGRESS_URL": "https://host:1234/",
            "FINETUNE_PROGRESS_PORT": "1234",
            "FINETUNE_HEALTH_PORT": "0",
            "FINETUNE_METRICS_PORT": "9090",
            "FINETUNE_WATCH_NAMESPACES": "b, a,,b",
            "FINETUNE_LOG_FORMAT": "json",
            "FINETUNE_WORKERS": "2",
            "FINETUNE_STORAGE_CLASS": "shared",
            "FINETUNE_NODE_SELECTOR": "pool=gpu, example.com/spot=",
            "FINETUNE_PRIORITY_CLASS": "batch",
            "FINETUNE_MAX_GPUS": "0",
            "FINETUNE_IMAGE_REGISTRIES": "registry.example.com/ml,ghcr.io",
        },
    )
    assert config.kubeconfig == "file"
    assert config.hub_endpoint == "http://hub:8080"
    assert config.allow_cpu
    assert config.progress_url == "https://host:1234"
    assert (config.progress_port, config.health_port, config.workers) == (1234, 0, 2)
    assert config.metrics_port == 9090
    assert config.namespaces == ("a", "b")
    assert config.log_format == "json"
    assert (config.storage_class, config.priority_class) == ("shared", "batch")
    assert config.node_selector == {"pool": "gpu", "example.com/spot": ""}
    assert config.max_gpus == 0
    assert config.image_registries == ("ghcr.io", "registry.example.com/ml")


@pytest.mark.parametrize(
    ("environment", "directory"),
    [
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, MOUNTED_TLS),
        ({"HOME": "/home/me"}, Path("/home/me/.local/state/finetune-operator/tls")),
        ({"XDG_STATE_HOME": "/state"}, Path("/state/finetune-operator/tls")),
        ({"FINETUNE_TLS_DIR": "/tls", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, Path("/tls")),
    ],
)
def test_the_certificate_is_mounted_in_a_cluster_and_kept_at_home_outside(
    environment: dict[str, str], directory: Path
) -> None:
    assert read([], {**IMAGE, **environment}).tls_directory == directory


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"FINETUNE_TRAINER_IMAGE": " "}, "FINETUNE_TRAINER_IMAGE is not set: set it to"),
        ({"FINETUNE_LOG_FORMAT": "xml"}, 'FINETUNE_LOG_FORMAT is "xml": set it to text or json'),
        ({"FINETUNE_ALLOW_CPU": "yes"}, 'FINETUNE_ALLOW_CPU is "yes": set it to true or false'),
        ({"FINETUNE_WORKERS": "0"}, 'FINETUNE_WORKERS is "0": set it to a number from 1'),
        ({"FINETUNE_MAX_GPUS": "-1"}, 'FINETUNE_MAX_GPUS is "-1": set it to a number from 0'),
        ({"FINETUNE_NODE_SELECTOR": "pool"}, 'FINETUNE_NODE_SELECTOR is "pool": set it to KEY=VAL'),
        ({"FINETUNE_PROGRESS_PORT": "http"}, "FINETUNE_PROGRESS_PORT is"),
        ({"FINETUNE_PROGRESS_URL": "http://host"}, "it must be https://HOST:PORT"),
        ({"FINETUNE_PROGRESS_URL": "host:8443"}, "it must be https://HOST:PORT"),
    ],
)
def test_a_wrong_setting_is_named_with_the_remedy(
    environment: dict[str, str], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        read([], {**IMAGE, **environment})
