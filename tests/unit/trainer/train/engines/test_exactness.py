"""Every engine learns what one process learns, and goes on where any other was stopped."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finetune_trainer.train.checkpoint import WEIGHTS
from unit.trainer.train.engines.ranks import Job, lora_calls, work_through
from unit.trainer.train.made import plan, prepared_workspace
from unit.trainer.train.runs import (
    gradient_norms,
    losses,
    recorded,
    validation_losses,
    weights,
)

pytestmark = pytest.mark.timeout(900)

LORA: dict[str, Any] = {"rank": 4, "alpha": 8, "dropout": "0"}
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"lora": LORA},
    "adapter": {"adapter": {"reductionFactor": 4, "targetModules": ["self_attn", "mlp"]}},
    "full": {"full": {}},
}
QUANTIZED: dict[str, dict[str, Any]] = {
    "qlora": {"lora": {**LORA, "quantization": "NF4"}},
    "qdora": {"lora": {**LORA, "quantization": "NF4", "dora": True}},
    "qadapter": {"adapter": {"reductionFactor": 4, "quantization": "NF4"}},
}
ENGINES: dict[str, dict[str, Any]] = {
    "ddp": {"strategy": "DDP"},
    "fsdp": {"strategy": "FSDP"},
    "zero1": {"strategy": "DeepSpeed", "deepspeed": {"stage": 1}},
    "zero2": {"strategy": "DeepSpeed", "deepspeed": {"stage": 2}},
    "zero3": {"strategy": "DeepSpeed", "deepspeed": {"stage": 3}},
}
# A second rank has fewer passes in some steps and no sequence of its own in the last of an epoch.
TRAINING = {"epochs": 2, "packing": False, "sequencesPerStep": 11}
STEPS = 6
# Seven in each of two layers.
LORA_LAYERS = 14
STOPPED = 2
SLICED = ("fsdp", "zero3")
OFFLOADED = (("zero2-offloaded", 2), ("zero3-offloaded", 3))
# At so high a rate the first steps are the best ones.
BEST: dict[str, Any] = {
    "learningRate": "1",
    "scheduler": {"type": "Constant", "warmupRatio": "0"},
    "evaluateEverySteps": 1,
    "loadBestModelAtEnd": True,
    "checkpoint": {"everySteps": 1, "keep": 1},
}
BEST_OF = ("ddp", "fsdp", "fsdp-kept", "zero2", "zero3")


class Runs:
    """Workspaces in which trainings have been worked through, by name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._prepared = prepared_workspace(root / "prepared").root

    def job(
        self,
        name: str,
        method: str,
        engine: dict[str, Any],
        ranks: int = 2,
        stop_after: int | None = None,
        broken_step: int | None = None,
        **training: Any,
    ) -> Job:
        """A training in the workspace `name`, a new one unless it is there."""
        root = self.root / name
        if not root.exists():
            shutil.copytree(self._prepared, root)
        run = json.loads(
            plan((METHODS | QUANTIZED)[method], **{**TRAINING, **training}).model_dump_json(
                by_alias=True
            )
        )
        return Job(str(root), {**run, "parallelism": engine}, ranks, stop_after, broken_step)

    def assert_same(self, name: str, other: str, steps: int = STEPS) -> None:
        one, two = (Job(str(self.root / each), {}).workspace for each in (name, other))
        assert len(losses(one)) == steps
        # The first step: before Adam magnifies what rounding did to the smallest gradients.
        assert losses(one)[0] == pytest.approx(losses(two)[0], rel=1e-6)
        assert gradient_norms(one)[0] == pytest.approx(gradient_norms(two)[0], rel=1e-6)
        assert losses(one) == pytest.approx(losses(two), rel=1e-5)
        assert validation_losses(one) == pytest.approx(validation_losses(two), rel=1e-5)
        mine, theirs = weights(one), weights(two)
        assert mine.keys() == theirs.keys()
        for key in mine:
            assert mine[key].norm() > 0, key
            torch.testing.assert_close(mine[key], theirs[key], rtol=1e-5, atol=1e-5, msg=key)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """One rank, then two of every engine, then one again for what two had begun."""
    runs = Runs(tmp_path_factory.mktemp("runs"))
    job, alone = runs.job, partial(runs.job, ranks=1)
    ddp, fsdp, _, zero2, zero3 = ENGINES.values()
    kept = {**fsdp, "fsdp": {"reshardAfterForward": False}}
    offload = {name: {"deepspeed": {"stage": stage, "offload": "CPU"}} for name, stage in OFFLOADED}
    work_through(
        [
            *[alone(f"one-{method}", method, {}) for method in METHODS],
            alone("one-skipping", "full", {}, broken_step=3),
            *[alone(f"one-bfloat16-{m}", m, {}, precision="Bfloat16") for m in METHODS],
            alone("one-then-fsdp", "full", {}, stop_after=STOPPED),
            alone("fsdp-of-one", "full", fsdp),
            *[alone(f"one-{method}", method, {}) for method in QUANTIZED],
            alone("one-then-fsdp-qlora", "qlora", {}, stop_after=STOPPED),
            *[job(f"{name}-{m}", m, engine) for name, engine in ENGINES.items() for m in METHODS],
            job("one-then-fsdp", "full", fsdp),
            job("fsdp-then-fsdp", "lora", fsdp, stop_after=STOPPED),
            job("fsdp-then-fsdp", "lora", fsdp),
            job("fsdp-then-one", "full", fsdp, stop_after=STOPPED),
            job("fsdp-then-ddp", "lora", fsdp, stop_after=STOPPED),
            job("fsdp-then-ddp", "lora", ddp),
            job("fsdp-checkpointed", "full", fsdp, gradientCheckpointing=True),
            *[job(f"{name}-skipping", "full", ENGINES[name], broken_step=3) for name in ENGINES],
            *[
                job(f"{name}-bfloat16-{m}", m, ENGINES[name], precision="Bfloat16")
                for name in SLICED
                for m in METHODS
            ],
            job("fsdp-then-zero3", "full", fsdp, stop_after=STOPPED),
            job("fsdp-then-zero3", "full", zero3),
            job("zero2-then-zero3", "lora", zero2, stop_after=STOPPED),
            job("zero2-then-zero3", "lora", zero3),
            job("zero3-then-one", "full", zero3, stop_after=STOPPED),
            job("zero3-then-zero2", "lora", zero3, stop_after=STOPPED),
            job("zero3-then-zero2", "lora", zero2),
            *[
                job(name, "full", {"strategy": "DeepSpeed", **settings})
                for name, settings in offload.items()
            ],
            *[job(f"fsdp-{method}", method, fsdp) for method in QUANTIZED],
            job("one-then-fsdp-qlora", "qlora", fsdp),
            job("fsdp-kept", "lora", kept),
            job("fsdp-kept-then-kept", "lora", kept, stop_after=STOPPED),
            job("fsdp-kept-then-kept", "lora", kept),
            *[
                job(f"{name}-best", "lora", {**ENGINES, "fsdp-kept": kept}[name], **BEST)
                for name in BEST_OF
            ],
            *[alone(f"{name}-then-one", "full", {}) for name in ("fsdp", "zero3")],
        ],
        runs.root,
    )
    return runs


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("engine", ENGINES)
def test_two_ranks_learn_what_one_learns(engine: str, method: str, runs: Runs) -> None:
    runs.assert_same(f"{engine}-{method}", f"one-{method}")


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("one-then-fsdp", "full"),
        ("fsdp-then-fsdp", "lora"),
        ("fsdp-then-one", "full"),
        ("fsdp-then-ddp", "lora"),
        ("fsdp-then-zero3", "full"),
        ("zero2-then-zero3", "lora"),
        ("zero3-then-one", "full"),
        ("zero3-then-zero2", "lora"),
        ("one-then-fsdp-qlora", "qlora"),
        ("fsdp-kept-then-kept", "lora"),
    ],
)
def test_a_stopped_run_goes_on_under_any_engine_and_world_size(
    name: str, method: str, runs: Runs
) -> None:
    runs.assert_same(name, f"one-{method}")


@pytest.mark.parametrize("name", [name for name, _ in OFFLOADED])
def test_state_in_cpu_memory_is_the_same_state(name: str, runs: Runs) -> None:
    runs.assert_same(name, "one-full")


@pytest.mark.parametrize("engine", ENGINES)
def test_the_gradient_of_a_skipped_step_is_forgotten(engine: str, runs: Runs) -> None:
    # It has no loss to compare.
    runs.assert_same(f"{engine}-skipping", "one-skipping", STEPS - 1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("engine", SLICED)
def test_slices_are_computed_with_in_bfloat16_as_whole_weights_are(
    engine: str, method: str, runs: Runs
) -> None:
    one, two = (
        Job(str(runs.root / f"{name}-bfloat16-{method}"), {}).workspace for name in ("one", engine)
    )
    # ZeRO-3 has the head's weight in its product only: the targets' logits stay rounded.
    same = 1e-3 if engine == "zero3" else 1e-6
    assert losses(two)[0] == pytest.approx(losses(one)[0], rel=same)
    # Later ones differ as those of one rank do that cuts its batches elsewhere: what a pass
    # computes is rounded to eight bits. What ranks add up is float32.
    assert losses(two) == pytest.approx(losses(one), rel=1e-2)


def test_slices_of_a_quantized_base_are_computed_with_as_the_whole_is(runs: Runs) -> None:
    for method in ("qlora", "qadapter"):
        runs.assert_same(f"fsdp-{method}", f"one-{method}")
    one, two = (Job(str(runs.root / f"{name}-qdora"), {}).workspace for name in ("one", "fsdp"))
    # Of its weights a few have gradients near zero, whose rounding AdamW magnifies.
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)


def test_one_rank_can_be_sharded(runs: Runs) -> None:
    runs.assert_same("fsdp-of-one", "one-full")


@pytest.mark.parametrize(("name", "method"), [("fsdp-checkpointed", "full"), ("fsdp-kept", "lora")])
def test_when_parameters_are_gathered_changes_nothing(name: str, method: str, runs: Runs) -> None:
    runs.assert_same(name, f"one-{method}")


@pytest.mark.parametrize(
    "name",
    [*[f"{engine}-lora" for engine in ENGINES], *[f"{each}-bfloat16-lora" for each in SLICED]],
)
def test_a_lora_layer_is_one_operator_whoever_holds_its_weights(name: str, runs: Runs) -> None:
    """Equal losses do not tell: PEFT's own forward pass has them too."""
    workspace = Job(str(runs.root / name), {}).workspace
    for rank in range(2):
        calls = lora_calls(workspace, rank)
        assert calls["fused"] >= LORA_LAYERS * STEPS
        assert calls["stock"] == 0


@pytest.mark.parametrize("engine", BEST_OF)
def test_the_best_weights_are_left_whoever_holds_them(engine: str, runs: Runs) -> None:
    workspace = Job(str(runs.root / f"{engine}-best"), {}).workspace
    measured = recorded(workspace, "eval_loss")
    best = 1 + measured.index(min(measured))
    assert best < len(measured) == STEPS
    left = weights(workspace)
    saved = load_file(workspace.checkpoints / f"step-{best}" / WEIGHTS)
    assert len(left) == len(saved)
    for name, tensor in saved.items():
        assert torch.equal(left["base_model.model." + name.replace(".default", "")], tensor), name
