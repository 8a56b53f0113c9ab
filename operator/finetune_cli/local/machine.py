"""Can this machine run the stages? Asked of the Python that would: its packages and its GPUs."""

from __future__ import annotations

import os
import subprocess

from finetune_cli.errors import CliError, Exit
from finetune_operator.api.resource import FineTuneJob

# torch takes minutes to import from a cold network file system, and for ever from a broken one.
PATIENCE_SECONDS = 300.0
_MISSING = """
import importlib.util as util
print(*(name for name in ("finetune_trainer", "torch") if util.find_spec(name) is None))
"""
_GPUS = "import torch; print(torch.cuda.device_count())"


def require_trainer(python: str) -> None:
    """The trainer is there.

    Raises:
        CliError: it is not, or there is no such Python.
    """
    missing = _ask(python, _MISSING).split()
    if missing:
        raise CliError(
            f"{python} has no {' and no '.join(missing)}: install the trainer with "
            f"`{python} -m pip install ./trainer-image` in a clone of the repository, or name "
            "another Python with --python.",
            Exit.NOT_FOUND,
        )


def require_one_node(resource: FineTuneJob) -> None:
    """The run asks for no more.

    Raises:
        CliError: it does.
    """
    nodes = resource.spec.resources.nodes
    if nodes > 1:
        raise CliError(
            f"spec.resources.nodes is {nodes}, and here is one machine: set it to 1, or apply the "
            "file to a cluster."
        )


def require_gpus(resource: FineTuneJob, python: str, *, allow_cpu: bool) -> None:
    """The machine has as many as the run asks for.

    Raises:
        CliError: it has not.
    """
    asked = resource.spec.resources
    if asked.gpus_per_node == 0 or allow_cpu:
        return
    there = int(_ask(python, _GPUS).split()[-1])
    if there < asked.gpus_per_node:
        raise CliError(
            f"spec.resources.gpusPerNode is {asked.gpus_per_node}, and torch sees {there} here: "
            f"say --gpus {there}{' to train on the CPU' if there == 0 else ''}, the same at every "
            "call, or set CUDA_VISIBLE_DEVICES so that it sees more."
        )


def _ask(python: str, code: str) -> str:
    try:
        answer = subprocess.run(
            [python, "-c", code],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            stdin=subprocess.DEVNULL,
            # Not from the working directory, which may hold anything.
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = error.strerror if isinstance(error, OSError) else "it does not answer"
        raise CliError(
            f"{python} cannot be run ({reason}): name a Python that has the trainer with --python.",
            Exit.NOT_FOUND,
        ) from None
    if answer.returncode:
        said = (answer.stderr.strip().splitlines() or ["no explanation"])[-1]
        raise CliError(
            f"{python} fails ({said}): name a Python that has the trainer with --python.",
            Exit.NOT_FOUND,
        )
    return answer.stdout
