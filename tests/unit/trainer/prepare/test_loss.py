"""A loss of one's own is looked for before anything is downloaded, and no code of it is run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.outcome import UserError
from finetune_trainer.prepare import stage
from finetune_trainer.run import Run
from finetune_trainer.workspace import Workspace
from unit.trainer.prepare.plans import plan

CODE = """
import torch
from torch.nn.functional import cross_entropy
from helper import scale
try:
    import no_such_package
except ImportError:
    no_such_package = None

raise SystemExit("this ran")

def focal(logits, targets):
    return cross_entropy(logits, targets, reduction="sum")

if no_such_package:
    chosen = focal
else:
    chosen = scale
"""


@pytest.fixture
def mounted(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a ConfigMap, as a kubelet mounts them."""
    directory = tmp_path / "mounted"
    (directory / "..data").mkdir(parents=True)
    for name, code in {"my_losses": CODE, "helper": "scale = max"}.items():
        (directory / "..data" / f"{name}.py").write_text(code)
        (directory / f"{name}.py").symlink_to(Path("..data", f"{name}.py"))
    monkeypatch.setenv("FINETUNE_LOSS_DIRECTORY", str(directory))
    return directory


def run_with(function: str, module: str = "my_losses") -> Run:
    loss: dict[str, Any] = {"module": module, "function": function}
    if module == "my_losses":
        loss["configMapRef"] = {"name": "losses"}
    return plan(training={"loss": loss})


@pytest.mark.parametrize("function", ["focal", "chosen", "scale"])
def test_a_function_is_found_and_kept_without_being_run(
    function: str, mounted: Path, workspace: Workspace
) -> None:
    stage(run_with(function), workspace)
    kept = workspace.prepare / "loss"
    assert {file.name for file in kept.iterdir()} == {"my_losses.py", "helper.py"}
    assert (kept / "my_losses.py").read_text() == CODE
    assert "my_losses" not in sys.modules


def test_a_function_of_the_image_will_do(sources: Path, workspace: Workspace) -> None:
    stage(run_with("cross_entropy", "torch.nn.functional"), workspace)
    assert not (workspace.prepare / "loss").exists()


def test_what_a_module_takes_from_all_of_another_is_not_known(
    mounted: Path, workspace: Workspace
) -> None:
    (mounted / "my_losses.py").write_text("from helper import *")
    stage(run_with("scale"), workspace)


@pytest.mark.parametrize(
    ("run", "code", "sentence"),
    [
        (
            run_with("f", "no_losses"),
            CODE,
            'spec.training.loss.module names "no_losses", which the trainer image does not have; '
            "configMapRef is not set.",
        ),
        (
            run_with("focul"),
            CODE,
            'spec.training.loss.function names "focul", which my_losses.py in configMapRef does '
            "not have; it has: chosen, cross_entropy, focal, no_such_package, scale, torch.",
        ),
        (
            run_with("focal"),
            "def focal(logits, targets)\n    return 1",
            'spec.training.loss.module names "my_losses", and my_losses.py in configMapRef is no '
            "Python in line 1 (expected ':').",
        ),
        (
            run_with("focal"),
            "import torch, no_such_package.losses\ndef focal(): ...",
            'spec.training.loss.module names "my_losses", and my_losses.py imports '
            '"no_such_package", which neither configMapRef nor the trainer image has: add it '
            "there, or set spec.trainer.image to an image that has it.",
        ),
        (
            run_with("cross_entropie", "torch.nn.functional"),
            CODE,
            'spec.training.loss.function names "cross_entropie", and module torch.nn.functional of '
            "the trainer image has no such function: name another, or give a module in "
            "configMapRef another name.",
        ),
    ],
    ids=["no module", "no function", "no Python", "no package", "no function of the image"],
)
def test_what_is_wrong_is_told_by_its_field(
    run: Run, code: str, sentence: str, mounted: Path, workspace: Workspace
) -> None:
    (mounted / "..data" / "my_losses.py").write_text(code)
    with pytest.raises(UserError) as raised:
        stage(run, workspace)
    assert str(raised.value) == sentence
    assert not workspace.model.exists()


def test_a_module_that_the_config_map_lacks_is_answered_with_those_it_has(
    mounted: Path, workspace: Workspace
) -> None:
    (mounted / "my_losses.py").unlink()
    with pytest.raises(UserError, match=r"configMapRef has: helper\.$"):
        stage(run_with("focal"), workspace)
