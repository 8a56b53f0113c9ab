"""Steps whose loss or gradient is not a number: left out, counted, written down; some in a row end
the run.

Weights and optimizer state are as before such a step, the data goes on. That a step is skipped on
all ranks follows from what is judged: the loss and the norm of all ranks together.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from transformers import AutoTokenizer

from finetune_trainer.data.examples import Examples
from finetune_trainer.outcome import NonFiniteLossError
from finetune_trainer.run import Run
from finetune_trainer.train.setup import Context
from finetune_trainer.workspace import Workspace

# One bad document is data, two a coincidence; after three the weights themselves are broken, or
# will not come right by waiting.
LIMIT = 3

FILE = "skipped-steps.jsonl"  # in the workspace's logs
# What is written down of a batch: enough to find the rows in the data set.
DOCUMENTS = 32
CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Skips:
    """Steps skipped so far, in all and without a good one since."""

    total: int = 0
    in_a_row: int = 0

    def after(self, *, finite: bool) -> Skips:
        """The counts when one more step is done, or skipped because it was not finite."""
        if finite:
            return Skips(self.total, 0)
        return Skips(self.total + 1, self.in_a_row + 1)

    def end_run(self, step: int, total_steps: int) -> bool:
        """Whether the run is to fail after `step` steps: nothing was learned lately, or at all."""
        return self.in_a_row >= LIMIT or step == total_steps == self.total


@dataclass(frozen=True, slots=True)
class SkippedStep:
    """One of them. `documents` are examples of the training data: those whose own pass was not
    finite, or all of the step if none is known to be to blame.
    """

    step: int
    loss: float
    gradient_norm: float
    documents: list[int]

    @property
    def words(self) -> str:
        """For a log line or an error message."""
        return f"loss {self.loss:.4g} with gradient norm {self.gradient_norm:.4g}"


def is_finite(loss: float, gradient_norm: float) -> bool:
    """Whether a step with these may change the weights."""
    return math.isfinite(loss) and math.isfinite(gradient_norm)


def flagged(documents: list[int], batches: list[list[int]], losses: list[Tensor]) -> list[float]:
    """1 for each of a step's `documents` that was in a batch of this rank without a finite loss."""
    pairs = zip(batches, losses, strict=True)
    bad = {index for batch, loss in pairs if not loss.isfinite() for index in batch}
    return [float(index in bad) for index in documents]


def blamed(documents: list[int], flags: Iterable[float]) -> list[int]:
    """The flagged of a step's documents; all where no flag is set, as when only the gradient
    overflowed.
    """
    found = [index for index, flag in zip(documents, flags, strict=True) if flag > 0]
    return found or documents


def write_down(skipped: SkippedStep, examples: Examples, workspace: Workspace) -> Path:
    """Add a line to the workspace's file on skipped steps; which is returned."""
    tokenizer = AutoTokenizer.from_pretrained(workspace.model, local_files_only=True)
    line = {
        "step": skipped.step,
        "loss": f"{skipped.loss:g}",
        "gradNorm": f"{skipped.gradient_norm:g}",
        "documents": [
            {
                "index": index,
                "text": tokenizer.decode(examples[index].tokens[:CHARACTERS])[:CHARACTERS],
            }
            for index in skipped.documents[:DOCUMENTS]
        ],
        "documentCount": len(skipped.documents),
    }
    path = workspace.logs / FILE
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return path


def tell(skipped: SkippedStep, examples: Examples, context: Context) -> None:
    """Write it down and say where."""
    if context.group.is_main:
        write_down(skipped, examples, context.workspace)
    context.journal.say(f"step {skipped.step} is skipped: {skipped.words}; see logs/{FILE}")


def require_few(skips: Skips, latest: SkippedStep, total_steps: int, run: Run) -> None:
    """There are not too many skipped steps.

    Raises:
        NonFiniteLossError: there are.
    """
    if skips.end_run(latest.step, total_steps):
        raise NonFiniteLossError(
            f"{skips.in_a_row} steps in a row were not finite, the last with {latest.words} in "
            f"step {latest.step}; logs/{FILE} in the workspace names their documents: "
            f"{_remedy(skips, latest, run)}."
        )


def _remedy(skips: Skips, latest: SkippedStep, run: Run) -> str:
    if run.training.loss:
        return "correct spec.training.loss, or the data"
    if skips.total == latest.step:  # nothing has been learned that could have spoiled the weights
        return (
            "set spec.training.precision to Float32, choose another spec.model.source, or correct "
            "the data"
        )
    rate = run.training.learning_rate
    return f"lower spec.training.learningRate (now {rate:g}) or correct the data"
