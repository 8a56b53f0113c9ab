"""What each stage leaves in the workspace and says of it, in the most trivial form.

Doing it again gives the same: so a stage whose pod died after its work is simply run again.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from foreign import promises
from foreign.ending import Ended

Json = dict[str, Any]

WORKSPACE = Path("/workspace")
SECONDS_A_STEP = 0.5
ROWS = 3


def prepare(run: Json) -> tuple[str, Json]:
    """Model and data, from nowhere."""
    mark = WORKSPACE / "plan-hash"
    if mark.exists() and mark.read_text() != run["planHash"]:
        _clear()
    mark.write_text(run["planHash"])
    _leave("model", {"config.json": "{}"})
    _leave("data", {"run.json": promises.RUN.read_text()})
    _leave("prepare", {"report.json": "{}", "preview.txt": "Nothing."})
    readers = [use for use in ("model", "dataset") if (promises.SECRETS / use / "token").exists()]
    return (
        f"{ROWS} rows, read with a token for: {', '.join(readers) or 'nothing'}.",
        {
            "modelCommit": "c0ffee",
            "datasetCommit": "decade",
            "rows": ROWS,
            "tokens": 30,
            "supervisedTokens": 12,
            "totalSteps": _total(run),
            "parameters": 7,
            "memoryEstimateBytes": 2**20,
        },
    )


def train(run: Json) -> tuple[str, Json]:
    """Steps that take time and lower a loss."""
    total, taken, trouble = _total(run), 0, ""
    for step in range(1, total + 1):
        time.sleep(SECONDS_A_STEP)
        try:
            taken += _report(step, total)
        except OSError as error:  # a report never stops a training
            trouble = f" ({error})"
    _leave(f"checkpoints/step-{total}", {"weights": "0"})
    made = "adapter" if "lora" in run["method"] else "merged"
    _leave(made, {"weights": "0"})
    return (
        f"{total} steps, {taken} reports taken{trouble}.",
        {
            "steps": total,
            "totalSteps": total,
            "loss": 1 / total,
            "validationLoss": "0.5",
            "trainableParameters": 2,
            "peakMemoryBytes": 2**19,
            made: made,
        },
    )


def merge(run: Json) -> tuple[str, Json]:
    """The whole model."""
    _require("adapter")
    _leave("merged", {"config.json": "{}"})
    return "Adapter and model are one.", {"merged": "merged", "tensorsMerged": 2}


def upload(run: Json) -> tuple[str, Json]:
    """A commit that no Hub has ever seen."""
    repository, commit = run["upload"]["repository"], "f00d"
    _require("merged" if "merge" in run or "full" in run["method"] else "adapter")
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    url = f"{hub}/{repository}/commit/{commit}"
    return f"Told of {repository}.", {"repository": repository, "commit": commit, "url": url}


STAGES: Mapping[str, Callable[[Json], tuple[str, Json]]] = {
    "prepare": prepare,
    "train": train,
    "merge": merge,
    "upload": upload,
}


def _total(run: Json) -> int:
    return int(run["training"].get("maxSteps", 1))


def _report(step: int, total: int) -> bool:
    """Post one report; whether there is someone to post it to."""
    url = os.environ.get("KUBEFLOW_TRAINER_SERVER_URL")
    if not url:
        return False
    values = {
        "current_step": step,
        "total_steps": total,
        "current_epoch": step / total,
        "loss": 1 / step,
        "colour_of_sky": "blue",
    }
    metrics = [{"name": name, "value": str(value)} for name, value in values.items()]
    status = {"progressPercentage": 100 * step // total, "metrics": metrics}
    token = Path(os.environ["KUBEFLOW_TRAINER_SERVER_TOKEN"]).read_text()
    request = urllib.request.Request(
        url,
        data=json.dumps({"trainerStatus": status}).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    trusted = ssl.create_default_context(cafile=os.environ["KUBEFLOW_TRAINER_SERVER_CA_CERT"])
    with urllib.request.urlopen(request, timeout=5, context=trusted):
        return True


def _leave(name: str, files: Mapping[str, str]) -> None:
    """A directory that bears its name only once it is complete."""
    target = WORKSPACE / name
    temporary = target.with_name(f"{target.name}.tmp")
    for leftover in (target, temporary):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary.mkdir(parents=True)
    for file, text in files.items():
        (temporary / file).write_text(text)
    os.sync()
    temporary.rename(target)


def _require(name: str) -> None:
    if not (WORKSPACE / name).is_dir():
        raise Ended(10, f"An earlier stage left no {name}/ in the workspace.")


def _clear() -> None:
    for entry in WORKSPACE.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink()
