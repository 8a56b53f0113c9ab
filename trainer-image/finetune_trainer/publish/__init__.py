"""`upload`: the model, its tokenizer and a card to the Hub, in one commit; torch is not imported.

The steps are here; `contents` gathers the files, `card` writes about them, `commit` brings them
there.
"""

from __future__ import annotations

from typing import Any

from huggingface_hub import HfApi

from finetune_trainer.hub import endpoint, read_token
from finetune_trainer.outcome import UserError
from finetune_trainer.publish.commit import publish
from finetune_trainer.publish.contents import contents
from finetune_trainer.run import Run
from finetune_trainer.workspace import Workspace


def stage(run: Run, workspace: Workspace) -> tuple[str, dict[str, Any]]:
    """Upload what `spec.upload` asks for; a second call after success makes no second commit.

    Nothing in the workspace is changed or removed.

    Raises:
        UserError: there is no token, or the Hub refuses it, the name or the write.
        RetryableError: the Hub cannot be reached or fails.
    """
    upload = run.upload
    if upload is None:
        raise UserError("There is nothing to upload to: set spec.upload.")
    token = read_token("upload")
    if token is None:
        raise UserError(
            "There is no token to upload with: set spec.upload.tokenSecretRef to a Secret with a "
            "write token, then set spec.rerunToken to a new value to go on from upload."
        )
    published = publish(
        HfApi(endpoint=endpoint(), token=token, library_name="finetune-operator"),
        upload.repository,
        upload.branch,
        upload.private,
        contents(run, upload, workspace),
        title=f"Fine-tuned by {run.namespace}/{run.name}",
        description=f"planHash: {run.plan_hash}",
    )
    verb = "Uploaded to" if published.created else "Already uploaded to"
    result = {
        "repository": upload.repository,
        "commit": published.commit,
        "url": published.url,
    }
    return f"{verb} {published.url}, commit {published.commit[:12]}.", result
