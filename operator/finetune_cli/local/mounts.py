"""What a stage's pod is given → what a process of this machine is given: files, and variables that
say where they are. Pure, but that a directory that stands for a ConfigMap is looked into.

The manifest is the operator's own (build/), so a stage gets what it gets in a cluster, and no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_cli.errors import CliError
from finetune_cli.local.bindings import Bindings
from finetune_operator.build.common import (
    LOSS_DIRECTORY,
    RUN_DIRECTORY,
    SECRETS,
    SOURCES_DIRECTORY,
    WORKSPACE,
    WORKSPACE_DIRECTORY,
)

Json = Mapping[str, Any]
TERMINATION_LOG = "/dev/termination-log"

# The trainer's names for the contract's places.
PLACES = {
    "FINETUNE_RUN_FILE": f"{RUN_DIRECTORY}/run.json",
    "FINETUNE_SOURCES": SOURCES_DIRECTORY,
    "FINETUNE_SECRETS": SECRETS,
    "FINETUNE_LOSS_DIRECTORY": LOSS_DIRECTORY,
    "FINETUNE_TERMINATION_LOG": TERMINATION_LOG,
}
# A person's own home and caches serve better than a pod's scratch; nobody scrapes a workstation.
_NOT_TAKEN = frozenset({"HOME", "HF_HOME", "FINETUNE_METRICS_PORT"})
# Tokens go to the stage that needs one, as a file; who is which rank is the trainer's to say.
_NOT_INHERITED = frozenset(
    {
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
    }
)
_PREFIXES_NOT_INHERITED = ("FINETUNE_", "KUBEFLOW_")
# As the trainer's image sets them; and the token of a login is nobody's who was not handed it.
_ALWAYS = {
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONSAFEPATH": "1",
    "PYTHONUNBUFFERED": "1",
    # A terminal is looked at more often than a status.
    "FINETUNE_PROGRESS_SECONDS": "1",
}


# Volumes of a pod that this process itself provides.
_RUN, _PROGRESS = "run", "progress"
_OURS = frozenset({_RUN, WORKSPACE, _PROGRESS})


@dataclass(frozen=True, slots=True)
class Mount:
    """A place of the contract: a directory as it is, or one with these files (content, or where
    that lies).
    """

    at: str
    content: Path | Mapping[str, bytes | Path]


def pod_of(job: Json) -> Json:
    """The pod that a stage's Job starts."""
    pod: Json = job["spec"]["template"]["spec"]
    return pod


def mounts(
    pod: Json, bindings: Bindings, workspace: Path, *, run: bytes = b"", report_token: str = ""
) -> list[Mount]:
    """What the pod mounts. `run` is run.json's content.

    Raises:
        CliError: a claim, ConfigMap or Secret is none that this machine has been told of.
    """
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    found = []
    for mount in pod["containers"][0]["volumeMounts"]:
        name, at = mount["name"], mount["mountPath"]
        if name == _RUN:
            found.append(Mount(at, {"run.json": run}))
        elif name == WORKSPACE:
            found.append(Mount(at, workspace))
        elif name == _PROGRESS:
            found.append(Mount(at, {"token": report_token.encode()}))
        elif (content := _content(volumes[name], bindings)) is not None:
            found.append(Mount(at, content))
    return found


def missing(pod: Json, bindings: Bindings) -> Iterator[str]:
    """What the pod mounts and this machine has not been told of, a sentence each."""
    for volume in pod["volumes"]:
        if volume["name"] in _OURS:
            continue
        try:
            _content(volume, bindings)
        except CliError as error:
            yield error.message


def environment(
    pod: Json, root: Path, found: Sequence[Mount], inherited: Mapping[str, str]
) -> dict[str, str]:
    """The variables of the stage's process, whose files lie below `root`."""
    kept = {
        name: value
        for name, value in inherited.items()
        if name not in _NOT_INHERITED and not name.startswith(_PREFIXES_NOT_INHERITED)
    }
    told = {
        entry["name"]: _here(entry.get("value", "0"), root, found)
        for entry in pod["containers"][0]["env"]
        if entry["name"] not in _NOT_TAKEN
    }
    places = {name: str(below(root, place)) for name, place in PLACES.items()}
    workspace = next(mount.content for mount in found if mount.at == WORKSPACE_DIRECTORY)
    if not _has_accelerators(pod):
        told["CUDA_VISIBLE_DEVICES"] = ""
    return {**kept, **_ALWAYS, **told, **places, "FINETUNE_WORKSPACE": str(workspace)}


def below(root: Path, place: str) -> Path:
    """Where a place of the contract is on this machine."""
    return root / place.lstrip("/")


def _has_accelerators(pod: Json) -> bool:
    limits = pod["containers"][0]["resources"].get("limits", {})
    return any("/" in name for name in limits)


def _here(value: str, root: Path, found: Sequence[Mount]) -> str:
    inside = any(value == mount.at or value.startswith(f"{mount.at}/") for mount in found)
    return str(below(root, value)) if inside else value


def _content(volume: Json, bindings: Bindings) -> Path | Mapping[str, bytes | Path] | None:
    field = field_of(volume["name"])
    if claim := volume.get("persistentVolumeClaim"):
        name = claim["claimName"]
        if name not in bindings.volumes:
            raise CliError(
                f"{field} is on the claim {name}, which is in no cluster here: say "
                f"--volume {name}=DIR with the directory that holds the same."
            )
        return bindings.volumes[name]
    if config_map := volume.get("configMap"):
        return dict(_config_map(field, config_map, bindings))
    if secret := volume.get("secret"):
        return {"token": _token(field, secret["secretName"], bindings)}
    return None


def _config_map(field: str, volume: Json, bindings: Bindings) -> Iterator[tuple[str, bytes | Path]]:
    name = volume["name"]
    held = bindings.config_maps.get(name)
    if held is None:
        raise CliError(
            f"{field} names the ConfigMap {name}, which is in no cluster here: say "
            f"--config-map {name}=DIR with a directory of its files, or put it into the same file."
        )
    keys = [item["key"] for item in volume["items"]] if "items" in volume else None
    if isinstance(held, Path):
        files = {path.name: path for path in sorted(held.iterdir()) if path.is_file()}
        content: Mapping[str, bytes | Path] = dict(files)
    else:
        content = {key: text.encode() for key, text in held.items()}
    for key in content if keys is None else keys:
        if key not in content:
            raise CliError(
                f"{field} names the key {key} of ConfigMap {name}, which has "
                f"{', '.join(sorted(content)) or 'none'}: correct the field or add the file."
            )
        yield key, content[key]


def _token(field: str, name: str, bindings: Bindings) -> bytes | Path:
    if name in bindings.secrets:
        return bindings.secrets[name]
    if bindings.token:
        return bindings.token.encode()
    instead = (
        ", or --until merge to leave that stage out" if field.startswith("spec.upload") else ""
    )
    raise CliError(
        f"{field} names the Secret {name}, which is in no cluster here: put the token into "
        f"HF_TOKEN, or say --secret {name}=FILE{instead}."
    )


def field_of(volume: str) -> str:
    """The field of the spec that a volume of a stage's pod stands for."""
    use, _, what = volume.rpartition("-")
    if volume == "loss":
        return "spec.training.loss.configMapRef"
    name, dash, index = use.partition("-")
    field = f"spec.{name}[{index}]" if dash else f"spec.{name}"
    return f"{field}.{'tokenSecretRef' if what == 'token' else what}"
