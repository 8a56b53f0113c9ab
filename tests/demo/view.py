"""The live view: what a resource says of its run, as one line.

Pure; `__main__` polls and prints.
"""

from __future__ import annotations

from typing import Any

from finetune_cli.words import span


def line(resource: dict[str, Any]) -> str:
    """Phase, stage, step, loss, tokens/s and time left, as far as the status has them."""
    status = resource.get("status", {})
    progress = status.get("progress", {})
    display = progress.get("display", {})
    metrics = status.get("metrics", {})
    parts = [f"{status.get('phase', 'Pending'):<10}", f"{status.get('stage', ''):<8}"]
    if status.get("stage") != "train" or "step" not in display:
        return " ".join([*parts, status.get("message", "")]).rstrip()
    parts.append(f"{display.get('percent', ''):>4}  step {display['step']:<9}")
    if "loss" in metrics:
        parts.append(f"loss {float(metrics['loss']):.3f} ")
    if "tokensPerSecond" in progress:
        parts.append(f"{float(progress['tokensPerSecond']):,.0f} tok/s ")
    if "etaSeconds" in progress:
        parts.append(f"ETA {span(progress['etaSeconds'])}")
    return " ".join(parts).rstrip()


def is_over(resource: dict[str, Any]) -> bool:
    """Whether the run has ended, well or not."""
    return resource.get("status", {}).get("phase") in ("Succeeded", "Failed")


def stage_table(resource: dict[str, Any]) -> list[str]:
    """The stages with their results, one line each."""
    return [
        f"  {stage['name']:<8} {stage['state']:<10} {stage.get('message', '')}"
        for stage in resource.get("status", {}).get("stages", [])
    ]
