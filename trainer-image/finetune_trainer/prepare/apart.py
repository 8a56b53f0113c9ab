"""torch stays out of the process that tokenizes: what needs it is asked of another one.

Loaded, torch and what comes with it hold 650 MB, and each process that tokenizes has its share.
transformers does without it for tokenizers and configurations.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import ParamSpec, TypeVar

from finetune_trainer.prepare.sizes import Memory, Sizes
from finetune_trainer.prepare.workers import end_with
from finetune_trainer.quiet import hush_libraries
from finetune_trainer.run import CustomLoss, Run, Task

P = ParamSpec("P")
R = TypeVar("R")


class _WithoutTorch(PathFinder):
    """Finds every installed module but torch, as if that were not installed."""

    @classmethod
    def find_spec(
        cls,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        return None if fullname == "torch" else super().find_spec(fullname, path, target)


def keep_torch_out() -> None:
    """Let importing torch fail from now on, unless it is here already."""
    if "torch" not in sys.modules:
        finders = [_WithoutTorch if it is PathFinder else it for it in sys.meta_path]
        sys.meta_path[:] = finders
        # transformers would advise to install it.
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")


def measure(directory: Path, run: Run) -> tuple[Sizes, Memory, float | None]:
    """How large the model in `directory` is, what a training process needs, and for training on
    CPUs how many operations a core does in a second.

    Raises:
        UserError: model and `spec.method` do not fit together.
    """
    return _apart(_measure, directory, run)


def require_whole(directory: Path, origin: str, task: Task) -> None:
    """Whether the weights in `directory` are all there, by `wholeness.require_whole`.

    Raises:
        UserError: a file is missing or cut off, or a tensor is missing or of another shape.
    """
    _apart(_require_whole, directory, origin, task)


def require_loss(settings: CustomLoss, files: Path) -> None:
    """Whether a user's own loss is there, by `loss.require_loss`.

    Raises:
        UserError: it is not.
    """
    _apart(_require_loss, settings, files)


def _measure(directory: Path, run: Run) -> tuple[Sizes, Memory, float | None]:
    from transformers import AutoConfig

    from finetune_trainer.prepare.core_rate import core_rate
    from finetune_trainer.prepare.memory import count_parameters, estimate_memory

    config = AutoConfig.from_pretrained(directory, local_files_only=True)
    sizes = count_parameters(config, run, directory)
    rate = None if run.resources.gpus_per_node else core_rate(run.training.precision)
    return sizes, estimate_memory(config, sizes, run), rate


def _require_whole(directory: Path, origin: str, task: Task) -> None:
    from finetune_trainer.prepare.wholeness import require_whole

    require_whole(directory, origin, task)


def _require_loss(settings: CustomLoss, files: Path) -> None:
    from finetune_trainer.prepare import loss

    loss.require_loss(settings, files)


def _apart(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call `function`, which imports torch, in a new process; here if torch is here.

    Raises:
        MemoryError: the process was killed.
        Exception: what `function` raised.
    """
    if "torch" in sys.modules:
        return function(*args, **kwargs)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        1, mp_context=context, initializer=_begin, initargs=(os.getpid(),)
    ) as executor:
        try:
            return executor.submit(function, *args, **kwargs).result()
        except BrokenProcessPool as error:
            raise MemoryError("a process of prepare was killed") from error


def _begin(parent: int) -> None:
    end_with(parent)
    hush_libraries()
