"""What goes into the repository: every file, by its path there.

Belongs here: which artefact lies where and what is written about the run. Does not: the Hub.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from finetune_trainer.layout import companions, has_chat_template, is_tokenizer
from finetune_trainer.outcome import DefectError, UserError
from finetune_trainer.publish.card import Facts, model_card
from finetune_trainer.report import beside_model
from finetune_trainer.run import Run, Upload
from finetune_trainer.versions import versions
from finetune_trainer.workspace import Workspace, json_text

Content = Path | bytes

ADAPTER_FOLDER = "adapter"


def contents(run: Run, upload: Upload, workspace: Workspace) -> dict[str, Content]:
    """The repository's files: the same bytes on every call for the same workspace.

    With a merged model the adapter goes into a folder; alone it is the repository's root, with the
    tokenizer that it was trained with.

    Raises:
        UserError: an adapter is asked for that full fine-tuning does not make, or a file is a link
            out of the workspace.
        DefectError: an artefact is asked for that an earlier stage should have left.
    """
    if "Adapter" in upload.artifacts and not run.method.makes_adapter:
        raise UserError(
            "spec.upload.artifacts asks for Adapter, which full fine-tuning does not make: "
            "leave Adapter out."
        )
    files: dict[str, Content] = {}
    has_model = "Merged" in upload.artifacts
    adapter_folder = None
    if has_model:
        files |= _directory(workspace.merged, "")
    if "Adapter" in upload.artifacts:
        adapter_folder = ADAPTER_FOLDER if has_model else ""
        files |= _directory(workspace.adapter, f"{adapter_folder}/" if adapter_folder else "")
    if not has_model:
        files |= {file.name: file for file in companions(workspace.model) if is_tokenizer(file)}
    _require_inside(workspace.root, files)
    told = beside_model(run, workspace)
    facts = Facts(
        run=run,
        repository=upload.repository,
        revision=upload.branch,
        report=_report(workspace),
        train=workspace.read_result("train") or {},
        merge=workspace.read_result("merge") or {},
        versions=versions(),
        has_model=has_model,
        adapter_folder=adapter_folder,
        told=frozenset(told),
        chats=has_chat_template(workspace.merged if has_model else workspace.model),
    )
    files["README.md"] = model_card(facts).encode()
    # From the model, not the file: a key that this version does not know is not published.
    plan = run.model_dump(mode="json", by_alias=True, exclude_none=True)
    files["finetune/run.json"] = _json(plan)
    files["finetune/report.json"] = _json(
        {
            "planHash": run.plan_hash,
            "prepare": dict(facts.report),
            "train": dict(facts.train),
            "merge": dict(facts.merge),
            "versions": dict(facts.versions),
        }
    )
    files |= {f"finetune/{name}": content for name, content in told.items()}
    return files


def _directory(directory: Path, prefix: str) -> dict[str, Content]:
    if not directory.is_dir():
        raise DefectError(f"The workspace has no {directory.name}/, which is to be uploaded.")
    return {
        prefix + str(file.relative_to(directory)): file
        for file in sorted(directory.rglob("*"))
        if file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(directory).parts)
        and file.name != "README.md"
    }


def _require_inside(root: Path, files: dict[str, Content]) -> None:
    """Any image may have written the workspace, and links could name the token of this pod."""
    inside = root.resolve()
    for name, content in files.items():
        if isinstance(content, Path) and not content.resolve().is_relative_to(inside):
            raise UserError(
                f'"{name}" in the workspace is a link to a file outside of it, which is not '
                "published: have the stage that made it write the file itself."
            )


def _report(workspace: Workspace) -> dict[str, Any]:
    """Prepare's report, which holds its result and more; else the result alone."""
    try:
        return dict(json.loads((workspace.prepare / "report.json").read_bytes()))
    except FileNotFoundError:
        return workspace.read_result("prepare") or {}


def _json(value: Any) -> bytes:
    return (json_text(value, indent=2) + "\n").encode()
