"""Which steps are skipped and when that ends a run."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from finetune_trainer.data.examples import Block, write_examples
from finetune_trainer.outcome import NonFiniteLossError, Outcome, PreemptedError
from finetune_trainer.train import checkpoint, recipe
from finetune_trainer.train.checkpoint import Position
from finetune_trainer.train.recipe import train
from finetune_trainer.train.skips import FILE, Skips, blamed, is_finite
from finetune_trainer.train.stop import Stop
from finetune_trainer.workspace import Workspace
from unit.trainer.tiny import VOCABULARY
from unit.trainer.train.forked import run_to_its_end
from unit.trainer.train.made import StopAfter, plan, prepared_workspace, random_examples


@pytest.mark.parametrize(
    ("loss", "norm", "finite"),
    [
        (2.0, 1.0, True),
        (0.0, 0.0, True),
        (math.nan, 1.0, False),
        (math.inf, 1.0, False),
        (2.0, math.nan, False),
        (2.0, math.inf, False),
    ],
)
def test_a_step_needs_a_finite_loss_and_gradient(loss: float, norm: float, finite: bool) -> None:
    assert is_finite(loss, norm) is finite


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ("", Skips(0, 0)),
        ("ok", Skips(0, 0)),
        ("bad", Skips(1, 1)),
        ("bad bad ok", Skips(2, 0)),
        ("bad ok bad", Skips(2, 1)),
        ("ok bad bad bad", Skips(3, 3)),
    ],
)
def test_skipped_steps_are_counted_in_all_and_in_a_row(steps: str, expected: Skips) -> None:
    skips = Skips()
    for step in steps.split():
        skips = skips.after(finite=step == "ok")
    assert skips == expected


@pytest.mark.parametrize(
    ("skips", "step", "ends"),
    [
        (Skips(2, 2), 5, False),
        (Skips(3, 3), 5, True),
        (Skips(9, 1), 12, False),
        (Skips(2, 2), 2, False),
        (Skips(20, 2), 20, True),  # the last step, and none before it was any good
        (Skips(19, 2), 20, False),
    ],
)
def test_a_run_ends_with_the_third_in_a_row_or_if_nothing_was_learned(
    skips: Skips, step: int, ends: bool
) -> None:
    assert skips.end_run(step, total_steps=20) is ends


@pytest.mark.parametrize(
    ("flags", "expected"), [([0.0, 1.0, 0.0], [5]), ([0.0, 0.0, 0.0], [3, 5, 9])]
)
def test_those_whose_pass_was_not_finite_are_blamed_else_all(
    flags: list[float], expected: list[int]
) -> None:
    assert blamed([3, 5, 9], flags) == expected


def test_a_checkpoint_of_an_older_image_has_skipped_nothing() -> None:
    state: dict[str, Any] = {"step": 3, "epoch": 1.0, "metrics": {"loss": 2.0}}
    assert Position.from_state(state) == Position(3, 1.0, {"loss": 2.0})


# No document counts this token; in real models, too, rows of unused tokens can hold anything.
RESERVED = VOCABULARY.index("<|im_start|>")


def workspace_with_bad_documents(root: Path, *bad: int) -> Workspace:
    """The model cannot compute the reserved token, which is in the documents `bad`."""
    workspace = prepared_workspace(root, tie_word_embeddings=False)
    model = AutoModelForCausalLM.from_pretrained(workspace.model)
    model.model.embed_tokens.weight.data[RESERVED] = math.nan
    model.save_pretrained(workspace.model)
    examples = random_examples(23)
    for index in bad:
        examples[index].tokens[1] = RESERVED
    write_examples(workspace.data / "train", [Block.of(examples)])
    return workspace


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_document_that_the_model_cannot_compute_costs_only_its_steps(tmp_path: Path) -> None:
    workspace = workspace_with_bad_documents(tmp_path, 7)
    run = plan(epochs=2, packing=False)
    message, result = train(run, workspace, Stop())
    assert result["skippedSteps"] == 2  # once an epoch
    assert result["validationLoss"] < result["baseValidationLoss"]
    assert "2 of them skipped" in message
    written = lines(workspace.logs / FILE)
    assert [line["loss"] for line in written] == ["nan", "nan"]
    assert 7 in [document["index"] for document in written[0]["documents"]]
    assert "<|im_start|>" in "".join(document["text"] for document in written[0]["documents"])
    history = lines(workspace.history)
    assert history[-2]["skipped_steps"] == 2
    assert not any(line.get("loss") != line.get("loss") for line in history)
    adapter = load_file(workspace.adapter / "adapter_model.safetensors")
    assert all(tensor.isfinite().all() for tensor in adapter.values())


def test_a_skipped_step_leaves_weights_and_optimizer_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = plan(epochs=2, packing=False, checkpoint={"everySteps": 1, "keep": 99})
    straight = workspace_with_bad_documents(tmp_path / "straight", 7)
    train(run, straight, Stop())
    skipped = lines(straight.logs / FILE)[0]["step"]
    # Not by itself: what computes no number might push out what did.
    assert not (straight.checkpoints / f"step-{skipped}").exists()
    stopped = workspace_with_bad_documents(tmp_path / "stopped", 7)
    with pytest.raises(PreemptedError):
        train(run, stopped, StopAfter(skipped).arm(recipe, monkeypatch))
    before, after = (
        {
            name: tensor
            for file in (checkpoint.WEIGHTS, checkpoint.OPTIMIZER)
            for name, tensor in load_file(each.checkpoints / f"step-{step}" / file).items()
        }
        for each, step in ((straight, skipped - 1), (stopped, skipped))
    )
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        assert torch.equal(before[name], tensor), name


def test_a_checkpoint_due_after_a_skipped_step_is_made_after_the_next(tmp_path: Path) -> None:
    workspace = workspace_with_bad_documents(tmp_path, 7)
    train(plan(epochs=1, packing=False), workspace, Stop())
    (skipped,) = (line["step"] for line in lines(workspace.logs / FILE))
    shutil.rmtree(workspace.checkpoints)
    run = plan(epochs=1, packing=False, checkpoint={"everySteps": skipped, "keep": 99})
    train(run, workspace, Stop())
    assert f"step-{skipped + 1}" in [path.name for path in checkpoint.steps(workspace.checkpoints)]


def test_the_best_evaluation_is_saved_also_where_its_step_was_skipped(tmp_path: Path) -> None:
    workspace = workspace_with_bad_documents(tmp_path, 7)
    train(plan(epochs=1, packing=False), workspace, Stop())
    (skipped,) = (line["step"] for line in lines(workspace.logs / FILE))
    shutil.rmtree(workspace.checkpoints)
    run = plan(
        maxSteps=skipped + 1,
        packing=False,
        evaluateEverySteps=skipped,
        loadBestModelAtEnd=True,
        checkpoint={"everySteps": 0, "keep": 1},
    )
    train(run, workspace, Stop())
    # It was the only one so far, and after it another checkpoint was written.
    kept = [path.name for path in checkpoint.steps(workspace.checkpoints)]
    assert kept == [f"step-{skipped + 1}", f"step-{skipped}"]


def test_a_run_resumed_after_a_skipped_step_counts_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = plan(epochs=3, packing=False)
    straight = workspace_with_bad_documents(tmp_path / "straight", 7)
    _, expected = train(run, straight, Stop())
    first = lines(straight.logs / FILE)[0]["step"]
    stopped = workspace_with_bad_documents(tmp_path / "stopped", 7)
    with monkeypatch.context() as patch:
        stop = StopAfter(first).arm(recipe, patch)
        with pytest.raises(PreemptedError):
            train(run, stopped, stop)
    _, result = train(run, stopped, Stop())
    assert result["skippedSteps"] == expected["skippedSteps"] == 3
    assert result["validationLoss"] == expected["validationLoss"]
    assert lines(stopped.logs / FILE) == lines(straight.logs / FILE)


def test_two_bad_steps_before_a_stop_and_one_after_it_are_three_in_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = workspace_with_bad_documents(tmp_path, *range(23))
    run = plan(epochs=2)
    with monkeypatch.context() as patch:
        stop = StopAfter(2).arm(recipe, patch)
        with pytest.raises(PreemptedError):
            train(run, workspace, stop)
    with pytest.raises(NonFiniteLossError, match=r"^3 steps in a row .* in step 3; logs/sk"):
        train(run, workspace, Stop())
    assert [line["step"] for line in lines(workspace.logs / FILE)] == [1, 2, 3]


def test_a_run_that_learned_nothing_is_a_failure_however_short(tmp_path: Path) -> None:
    workspace = workspace_with_bad_documents(tmp_path, *range(23))
    with pytest.raises(NonFiniteLossError, match=r"^2 steps in a row"):
        train(plan(maxSteps=2), workspace, Stop())


@pytest.mark.timeout(300)
def test_all_ranks_skip_what_one_of_them_cannot_compute(tmp_path: Path) -> None:
    run = plan(epochs=1, packing=False)
    alone = workspace_with_bad_documents(tmp_path / "alone", 7)
    train(run, alone, Stop())
    both = workspace_with_bad_documents(tmp_path / "both", 7)
    ended = run_to_its_end(both, run, FINETUNE_PROCESSES_PER_NODE="2")
    assert ended.outcome is Outcome.SUCCEEDED, ended.log
    blamed_of_one, blamed_of_two = (lines(each.logs / FILE)[0] for each in (alone, both))
    assert blamed_of_one["step"] == blamed_of_two["step"]
    assert 7 in [document["index"] for document in blamed_of_two["documents"]]
    one, two = (lines(each.history)[-1]["eval_loss"] for each in (alone, both))
    assert two == pytest.approx(one, rel=1e-5)
