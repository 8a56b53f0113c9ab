"""The proof: what was published is there, beats the base on held-out data, and answers differently.

It is checked against the Hub and the files downloaded from it, as far as they can tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

QUESTIONS = (
    "What does the noun 'abacus' mean?",
    "What does the noun 'lighthouse' mean?",
    "What does the verb 'negotiate' mean?",
)


class ProofError(Exception):
    """The demo did not deliver; the message says what is off."""


@dataclass(frozen=True)
class Losses:
    """Mean validation loss per token, in nats, before and after training."""

    base: float
    tuned: float


def losses(resource: dict[str, Any]) -> Losses:
    """Validation loss of base and tuned model, from status.

    Raises:
        ProofError: one is missing, or tuning did not help.
    """
    metrics = resource["status"].get("metrics", {})
    try:
        found = Losses(float(metrics["baseValidationLoss"]), float(metrics["validationLoss"]))
    except KeyError as error:
        raise ProofError(f"status.metrics has no {error.args[0]}") from None
    if not found.tuned < found.base:
        raise ProofError(f"validation loss did not fall: {found.base} -> {found.tuned}")
    return found


def download(endpoint: str, repository: str, commit: str, folder: Path) -> list[str]:
    """The published files at `commit`, fetched with the Hub's own client; their names.

    Raises:
        ProofError: the tree is not what a user of the model needs.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    snapshot_download(repository, revision=commit, local_dir=folder, endpoint=endpoint, token=False)
    names = sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and ".cache" not in path.parts
    )
    needed = {"README.md", "config.json", "generation_config.json", "tokenizer.json"}
    missing = needed - set(names)
    if missing or not any(name.endswith(".safetensors") for name in names):
        raise ProofError(f"the published tree lacks {sorted(missing) or 'weights'}")
    return names


def answers(model: Path, questions: tuple[str, ...] = QUESTIONS) -> list[str]:
    """Greedy answers of the model in `model` to each question, through its own chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    found = []
    for question in questions:
        inputs = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        with torch.inference_mode():
            output = network.generate(**inputs, max_new_tokens=48, do_sample=False)
        answer = tokenizer.decode(
            output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        found.append(" ".join(answer.split()))
    return found
