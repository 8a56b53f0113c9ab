"""What docs/stage-contract.md promises a container, looked at from inside.

Each function yields a sentence for every promise that is not kept.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

RUN = Path("/etc/finetune/run.json")
WORKSPACE = Path("/workspace")
ALL_SECRETS = Path("/var/run/secrets")
SECRETS = ALL_SECRETS / "finetune"

STAGES = ("prepare", "train", "merge", "upload")
OFFLINE = ("train", "merge")
OF_RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
OF_TRAIN = (
    "FINETUNE_NODES",
    "FINETUNE_NODE_RANK",
    "FINETUNE_PROCESSES_PER_NODE",
    "FINETUNE_MASTER_ADDR",
    "FINETUNE_MASTER_PORT",
    "FINETUNE_ALLOW_CPU",
)
OF_PROGRESS = (
    "KUBEFLOW_TRAINER_SERVER_URL",
    "KUBEFLOW_TRAINER_SERVER_CA_CERT",
    "KUBEFLOW_TRAINER_SERVER_TOKEN",
)
SECRETS_OF = {
    "prepare": {"finetune/model/token", "finetune/dataset/token"},
    "train": {"finetune/progress/token", "finetune/progress/ca.crt"},
    "merge": set(),
    "upload": {"finetune/upload/token"},
}


def broken(arguments: list[str]) -> list[str]:
    """All promises that are broken; most often none."""
    if len(arguments) != 1 or arguments[0] not in STAGES:
        return [f"the verb is the only argument, not {arguments}"]
    stage = arguments[0]
    found = [*_plan(stage), *_files(stage), *_environment(stage), *_secrets(stage), *_identity()]
    return found + (list(_ranks()) if stage == "train" and not found else [])


def _plan(stage: str) -> Iterator[str]:
    if not RUN.is_file():
        yield f"{RUN} is the plan"
        return
    run = json.loads(RUN.read_bytes())
    if run.get("contractVersion") != "v1alpha1":
        yield f"contractVersion is v1alpha1, not {run.get('contractVersion')}"
    try:
        with RUN.open("ab"):
            yield "run.json is read-only"
    except OSError:
        pass
    if stage == "prepare":
        return
    mark, copy = WORKSPACE / "plan-hash", WORKSPACE / "data" / "run.json"
    planned = run.get("continues", {}).get("stages", {}).get("prepare", run["planHash"])
    if not mark.exists() or mark.read_text() != planned or not copy.exists():
        yield "all stages have the same workspace"
    elif planned == run["planHash"] and copy.read_bytes() != RUN.read_bytes():
        yield "run.json has the same bytes for every stage of a plan"


def _files(stage: str) -> Iterator[str]:
    folders = [WORKSPACE, Path("/tmp"), *([Path("/dev/shm")] if stage == "train" else [])]
    for folder in folders:
        probe = folder / "probe"
        try:
            probe.write_text("x")
            probe.unlink()
        except OSError as error:
            yield f"{folder} is writable ({error.strerror})"
    if not os.statvfs("/").f_flag & os.ST_RDONLY:
        yield "the root file system is read-only"


def _environment(stage: str) -> Iterator[str]:
    wanted = {"FINETUNE_STAGE": stage, "HF_HOME": "/tmp/hf", "HOME": "/tmp"}
    absent = [*OF_RANKS]
    if stage in OFFLINE:
        wanted["HF_HUB_OFFLINE"] = "1"
        absent.append("HF_ENDPOINT")
    else:
        absent.append("HF_HUB_OFFLINE")
    if stage != "train":
        absent += [*OF_TRAIN, *OF_PROGRESS]
    for name, value in wanted.items():
        if os.environ.get(name) != value:
            yield f"{name} is {value}, not {os.environ.get(name)}"
    for name in absent:
        if name in os.environ:
            yield f"{name} is not set in {stage}"
    counts = ["FINETUNE_ATTEMPT", *(["FINETUNE_CPUS"] if "FINETUNE_CPUS" in os.environ else [])]
    for name in counts:
        text = os.environ.get(name, "")
        if not text.isdigit() or int(text) < 1:
            yield f"{name} is a number from 1, not {text!r}"


def _ranks() -> Iterator[str]:
    asked = json.loads(RUN.read_bytes())["resources"]
    expected = {
        "FINETUNE_NODES": str(asked["nodes"]),
        "FINETUNE_PROCESSES_PER_NODE": str(max(1, asked["gpusPerNode"])),
        "FINETUNE_MASTER_PORT": "29500",
    }
    for name, value in expected.items():
        if os.environ.get(name) != value:
            yield f"{name} is {value}, not {os.environ.get(name)}"
    rank = os.environ.get("FINETUNE_NODE_RANK", "")
    if rank not in [str(index) for index in range(asked["nodes"])]:
        yield f"FINETUNE_NODE_RANK is this pod's index, not {rank!r}"
    host = os.environ.get("FINETUNE_MASTER_ADDR", "")
    try:
        socket.getaddrinfo(host, 29500)
    except OSError:
        yield f"FINETUNE_MASTER_ADDR is a name that resolves, not {host!r}"
    if "KUBEFLOW_TRAINER_SERVER_URL" in os.environ:
        for name in ("KUBEFLOW_TRAINER_SERVER_CA_CERT", "KUBEFLOW_TRAINER_SERVER_TOKEN"):
            if not Path(os.environ.get(name, "")).is_file():
                yield f"{name} names a file"


def _secrets(stage: str) -> Iterator[str]:
    paths = (path for path in ALL_SECRETS.rglob("*") if path.is_file())
    found = {str(path.relative_to(ALL_SECRETS)) for path in paths}
    # A volume of the kubelet holds its files behind links in hidden folders.
    found = {path for path in found if "/.." not in path}
    for path in sorted(found - SECRETS_OF[stage]):
        yield f"{stage} has no {ALL_SECRETS / path}"
    if stage == "upload":
        token = SECRETS / "upload" / "token"
        if not token.is_file() or not token.read_text().strip():
            yield f"{token} holds the write token"


def _identity() -> Iterator[str]:
    if os.getuid() == 0 or os.getgid() == 0:
        yield "the container is not run as root"
    status = Path("/proc/self/status").read_text().split("\n")
    facts = dict(line.split(":\t", 1) for line in status if ":\t" in line)
    if int(facts["CapEff"], 16) or int(facts["CapBnd"], 16):
        yield "the container has no capabilities"
    if facts["NoNewPrivs"] != "1":
        yield "the container gains no privileges"
