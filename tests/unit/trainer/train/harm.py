"""What can happen to a workspace, or to a process of `train`: done for real, where it can be."""

from __future__ import annotations

import ctypes
import errno
import json
import math
import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from finetune_trainer.data.examples import write_examples
from finetune_trainer.train import checkpoint, recipe, rendezvous, setup
from finetune_trainer.train.model import load_base
from finetune_trainer.train.parallel import seed_step
from finetune_trainer.workspace import Workspace
from unit.trainer.tiny import VOCABULARY, tiny_model

Harm = Callable[[Workspace], object]

WEIGHTS = "model/model.safetensors"
# linux/capability.h
_CAP_DAC_OVERRIDE, _VERSION_3 = 1, 0x20080522


# to files


def to(name: str, harm: Callable[[Path], object]) -> Harm:
    """`harm` to the file, or directory, `name` of the workspace."""
    return lambda workspace: harm(workspace.root / name)


def cut(path: Path) -> None:
    """Leave the first half of the file."""
    os.truncate(path, path.stat().st_size // 2)


def turn_bit(path: Path, place: int = -1) -> None:
    """Turn one bit of the byte at `place`."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def turn_bit_of_header(path: Path) -> None:
    """Of a safetensors file: that of the brace after eight bytes of length."""
    turn_bit(path, 8)


def shift_offset(path: Path) -> None:
    """One example of an array of offsets ends before it begins."""
    offsets = np.lib.format.open_memmap(path, mode="r+")
    offsets[3] += 1000


def close(path: Path) -> None:
    """Nobody may write to the directory; `no_privilege` is to be bound by that."""
    path.chmod(0o555)


# to workspaces


def begin_anew(workspace: Workspace) -> None:
    """Take away what has been trained."""
    shutil.rmtree(workspace.checkpoints)
    workspace.history.unlink()


def newest_checkpoints(harm: Callable[[Path], object], count: int) -> Harm:
    """`harm` to the weights of so many."""

    def done(workspace: Workspace) -> None:
        for path in checkpoint.steps(workspace.checkpoints)[:count]:
            harm(path / checkpoint.WEIGHTS)

    return done


def nan_in_base(workspace: Workspace) -> None:
    """Of a run that has not begun."""
    begin_anew(workspace)
    _fill(workspace, "model.norm.weight", slice(None))


def nan_without_validation(workspace: Workspace) -> None:
    """The same, and nothing measures it before the first step."""
    nan_in_base(workspace)
    shutil.rmtree(workspace.data / "validation")


def token_that_is_nan(workspace: Workspace) -> None:
    """The base cannot compute a token that every document to train on has."""
    token = VOCABULARY.index("<|im_start|>")
    _fill(workspace, "model.embed_tokens.weight", token)
    tokens = np.lib.format.open_memmap(workspace.data / "train" / "tokens.npy", mode="r+")
    tokens[np.load(workspace.data / "train" / "offsets.npy")[:-1]] = token


def _fill(workspace: Workspace, name: str, where: int | slice) -> None:
    tensors = load_file(workspace.root / WEIGHTS)
    tensors[name][where] = math.nan
    save_file(tensors, workspace.root / WEIGHTS, metadata={"format": "pt"})


def no_examples(split: str) -> Harm:
    """Whoever prepared `split` has found nothing."""
    return lambda workspace: write_examples(workspace.data / split, [])


def other_plan(workspace: Workspace) -> None:
    """Another run has prepared its data here."""
    (workspace.data / "meta.json").write_text(json.dumps({"planHash": "77aa0c"}))
    workspace.plan_hash.write_text("77aa0c\n")


def large_base(workspace: Workspace) -> None:
    """A base of 100 MB."""
    begin_anew(workspace)
    tiny_model(hidden_size=1024, intermediate_size=4096).save_pretrained(workspace.model)


def full_volume(workspace: Workspace) -> None:
    """The checkpoints are on a volume of their own, which takes no other."""
    aside = workspace.checkpoints.with_name("aside")
    workspace.checkpoints.rename(aside)
    workspace.checkpoints.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(workspace.checkpoints)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small volume")
    shutil.copytree(aside, workspace.checkpoints, dirs_exist_ok=True)
    free = os.statvfs(workspace.checkpoints)
    # Some KiB stay: a checkpoint's first bytes can be written.
    (workspace.checkpoints / "others").write_bytes(bytes(free.f_bavail * free.f_frsize - 2**13))


# to processes, before they begin


def no_privilege() -> None:
    """Root is bound by the modes of directories, as everybody is."""
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, 32 bits of each
    assert libc.capget(header, sets) == 0
    sets[0] &= ~(1 << _CAP_DAC_OVERRIDE)
    assert libc.capset(header, sets) == 0


def small_files() -> None:
    """None may be as large as a checkpoint's."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, 2**14))


def little_memory() -> None:
    """It may have 64 MiB more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 64 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def no_patience() -> None:
    """The others have a second to come. This fault alone is not caused but set."""
    rendezvous.PATIENCE_SECONDS = 1.0


def newest_checkpoint_is_stale_for_the_second_rank() -> None:
    """Its node has another view of the volume."""
    newest = checkpoint.steps(Workspace.from_environment().checkpoints)[0]
    digest = checkpoint._sha256

    def read(path: Path) -> str:
        if os.environ["RANK"] == "1" and path.parent == newest:
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return digest(path)

    pytest.MonkeyPatch().setattr(checkpoint, "_sha256", read)


def a_module_that_is_never_called() -> None:
    """The base has one."""

    def with_idle(*args: Any, **settings: Any) -> Any:
        base = load_base(*args, **settings)
        base.idle = torch.nn.Linear(8, 8)
        return base

    pytest.MonkeyPatch().setattr(setup, "load_base", with_idle)


def slowly() -> None:
    """Every step takes a while, in which the process can be killed."""

    def seed_later(seed: int, step: int, rank: int) -> None:
        time.sleep(0.03)
        seed_step(seed, step, rank)

    pytest.MonkeyPatch().setattr(recipe, "seed_step", seed_later)


def kill_a_rank_later() -> None:
    """The second process of the pod, when the run has gone on for three steps."""
    threading.Thread(target=_kill_a_rank, daemon=True).start()


def _kill_a_rank() -> None:
    history = Workspace.from_environment().history
    before = history.read_text().count('"loss"')
    while history.read_text().count('"loss"') < before + 3:
        time.sleep(0.02)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    os.kill(int(children[1]), signal.SIGKILL)
