"""When a checkpoint is written, and that it costs the steps little: copied at once, written in a
thread while training goes on.

What a checkpoint is and how it is found again is `checkpoint.py`'s business.
"""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from torch import Tensor

from finetune_trainer.train import checkpoint
from finetune_trainer.train.checkpoint import Position
from finetune_trainer.train.guards import require_finite_weights
from finetune_trainer.train.setup import Context, Trained

# On an accelerator the copy in memory exists anyway. In a CPU's memory it is a second one of all
# that is trained: from this size on it is better to wait for the disk.
LARGEST_SECOND_COPY = 2**30


class Saver:
    """The checkpoints of one run. All ranks call everything together."""

    def __init__(self, context: Context, trained: Trained) -> None:
        self._context = context
        self._trained = trained
        self._settings = context.run.training.checkpoint
        self._keeps_best = context.run.training.load_best_model_at_end
        self._root = context.workspace.checkpoints
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[Path] | None = None
        self._step = 0
        self._saved_at = time.monotonic()
        self._answered: str | None = None  # the last request that a checkpoint came after
        self.asked = False

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # However the run ends, a checkpoint under way is finished.
        self._context.group.heart.rest("writing a checkpoint")
        self._thread.shutdown(wait=True)

    def resume(self) -> Position | None:
        """Load the newest checkpoint that all ranks can use, and say which cannot be; None without
        one.
        """
        position, skipped = checkpoint.load_newest(
            self._root,
            plan_hash=self._context.run.plan_hash,
            restore=self._trained.engine.load_state,
            group=self._context.group,
        )
        for each in skipped:
            self._context.journal.say(f"{each.path.name} cannot be used and is skipped: {each.why}")
            if each.damaged and self._context.group.is_main:
                # It would count as one of those to keep, and push out one that is whole.
                shutil.rmtree(each.path)
        if self._context.group.is_main:
            checkpoint.remove_unfinished(self._root)
        if position is not None:
            self._step, self._answered = position.step, position.checkpoint_requested_at
        self._context.journal.saved(self._step)
        return position

    @property
    def wanted(self) -> bool:
        """Whether rank 0 wants a checkpoint: `everySeconds` have passed by its clock, or somebody
        has asked for one; never elsewhere.
        """
        if not self._context.group.is_main:
            return False
        every = self._settings.every_seconds
        overdue = every > 0 and time.monotonic() - self._saved_at >= every
        return overdue or self._requested_at() != self._answered

    def is_due(self, position: Position) -> bool:
        """Whether a checkpoint of `position` is to be written: by steps, because it was `asked` for
        (on all ranks), or as the best evaluated; after a skipped step with the next good one, since
        weights that compute no number must not push out those that did. The best evaluated do
        compute one.
        """
        if position.step == 0:
            return False
        every, best = self._settings.every_steps, position.evaluations.best_step
        self.asked |= every > 0 and position.step % every == 0
        if self._keeps_best and best == position.step:
            return True
        return self.asked and not position.skips.in_a_row

    def save(self, position: Position) -> None:
        """Make sure of a checkpoint of `position`; it is there when `finish` returns.

        Raises:
            NonFiniteLossError: the weights are broken: the older ones are worth more.
            OSError: the one before could not be written; those before that are untouched.
        """
        self.asked = False
        if position.step == self._step:
            return
        require_finite_weights(self._trained.engine, self._context.run)
        self.finish()
        weights, moments = self._trained.engine.state()
        self._step, self._saved_at = position.step, time.monotonic()
        requested = self._requested_at()
        if requested != self._answered:
            self._context.journal.say(f"saving after step {position.step}: asked for {requested}")
        position.checkpoint_requested_at = self._answered = requested
        if not self._context.group.is_main:
            return
        if self._context.device.type == "cpu" and _bytes(weights, moments) > LARGEST_SECOND_COPY:
            self._context.group.heart.rest("writing a checkpoint")
            self._write(copy.deepcopy(position), weights, moments)
            return
        self._writing = self._thread.submit(
            self._write, copy.deepcopy(position), _copied(weights), _copied(moments)
        )

    def finish(self) -> None:
        """Wait for the checkpoint that is being written.

        Raises:
            OSError: it could not be; older ones are untouched.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            self._context.group.heart.rest("writing a checkpoint")
            writing.result()

    def take_best(self, position: Position) -> int | None:
        """Go back to the weights of the best evaluation, if the plan asks for it: its step, and in
        `position` what it measured. None if not, or if its checkpoint cannot be used.
        """
        self.finish()
        best = position.evaluations
        if not self._keeps_best or best.best_step is None:
            return None
        if best.best_step != position.step and not self._load_best(best.best_step):
            return None
        position.metrics |= {f"validation_{name}": each for name, each in best.best.items()}
        return best.best_step

    def _load_best(self, step: int) -> bool:
        self._context.group.barrier()  # rank 0 has written it
        found = checkpoint.load(
            self._root / f"step-{step}",
            plan_hash=self._context.run.plan_hash,
            restore=self._trained.engine.load_state,
            group=self._context.group,
        )
        if isinstance(found, Position):
            return True
        self._context.journal.say(
            f"WARNING: the best checkpoint, {found.path.name}, cannot be used ({found.why}): "
            "what the last step left is exported."
        )
        return False

    def _requested_at(self) -> str | None:
        # A server that has not said anything yet asks for nothing new.
        return self._context.journal.checkpoint_requested_at() or self._answered

    def _write(
        self, position: Position, weights: dict[str, Tensor], moments: dict[str, Tensor]
    ) -> Path:
        path = checkpoint.save(
            self._root,
            plan_hash=self._context.run.plan_hash,
            position=position,
            weights=weights,
            moments=moments,
            keep=self._settings.keep,
            besides=position.evaluations.best_step if self._keeps_best else None,
        )
        self._context.journal.say(f"checkpoint after step {position.step}")
        self._context.journal.saved(position.step)
        return path


def _bytes(*groups: dict[str, Tensor]) -> int:
    return sum(tensor.nbytes for group in groups for tensor in group.values())


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies that training cannot change; each of the originals is let go on the way."""
    names: Iterable[str] = list(tensors)
    return {name: tensors.pop(name).clone() for name in names}
