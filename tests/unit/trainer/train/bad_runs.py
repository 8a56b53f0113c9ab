"""Runs of `train` that cannot succeed, and the sentences they end with.

Each goes on from step 4 of a good run, after some harm to its workspace or by another plan. What
only `prepare` can find out is in `prepare/test_bad_data.py`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_trainer.outcome import Outcome
from finetune_trainer.run import Run
from unit.trainer.train import harm
from unit.trainer.train.harm import Harm, to
from unit.trainer.train.made import plan

USER_ERROR, RETRYABLE = Outcome.USER_ERROR, Outcome.RETRYABLE
OUT_OF_MEMORY, NON_FINITE = Outcome.OUT_OF_MEMORY, Outcome.NON_FINITE_LOSS

RANK: dict[str, Any] = {"rank": 4, "alpha": 8}
STEPS = 8
LINEAR = "its linear modules are: down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj."
BRING = "set spec.rerunToken to another value, so that prepare brings it again."
BROKEN_MODEL = "The base model in the workspace is broken, because model.safetensors is "
BROKEN_DATA = "The prepared data are broken, because "
OTHER_IMAGE = "set spec.trainer.image to an image made for this version of the operator."
LOSS = "spec.training.loss my_loss:f"
IMPORTED = "set module and function to what the trainer image or loss.configMapRef has."
SKIPPED = (
    "3 steps in a row were not finite, the last with loss nan with gradient norm nan in step {}; "
    "logs/skipped-steps.jsonl in the workspace names their documents: "
)
CLAIM = "name a claim in spec.storage.claimName that user {user} may write, or leave claimName out."
MORE_ROOM = (
    "raise spec.resources.memory, lower spec.training.sequenceLength, or set "
    "spec.training.gradientCheckpointing."
)
TWO_PODS = {
    "FINETUNE_NODES": "2",
    "FINETUNE_NODE_RANK": "0",
    "FINETUNE_MASTER_ADDR": "127.0.0.1",
    "FINETUNE_MASTER_PORT": "29477",
}


@dataclass(frozen=True)
class Bad:
    """One of them; `sentence` has `*` for what may be anything."""

    what: str
    sentence: str
    harm: Harm | None = None
    outcome: Outcome = USER_ERROR
    method: Mapping[str, Any] = field(default_factory=lambda: {"lora": RANK})
    training: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    before: Callable[[], object] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.what

    def says(self, message: str) -> bool:
        """Whether `message` is its sentence."""
        expected = self.sentence.format(user=os.geteuid())
        return bool(re.fullmatch(re.escape(expected).replace(r"\*", ".*"), message))

    @property
    def run(self) -> dict[str, Any]:
        """Its run.json, which need not be one that anybody can read."""
        document: dict[str, Any] = json.loads(good().model_dump_json(by_alias=True))
        training = {**document["training"], **self.training}
        return {**document, "method": self.method, "training": training, **self.plan}


def good(steps: int = STEPS, keep: int = 2) -> Run:
    return plan({"lora": RANK}, maxSteps=steps, checkpoint={"everySteps": 2, "keep": keep})


def lora(**changes: Any) -> dict[str, Any]:
    return {"lora": {**RANK, **changes}}


def strategy(name: str, **settings: Any) -> dict[str, Any]:
    return {"parallelism": {"strategy": name, **settings}}


def loss(what: str, sentence: str, code: str, outcome: Outcome = USER_ERROR) -> Bad:
    return Bad(
        f"a loss {what}",
        sentence,
        lambda workspace: (workspace.root / "loss" / "my_loss.py").write_text(code),
        outcome,
        training={"loss": {"module": "my_loss", "function": "f"}},
    )


BAD = (
    # what prepare has left
    Bad(
        "weights that were cut off",
        BROKEN_MODEL + f"damaged: it has * bytes and should have *: {BRING}",
        to(harm.WEIGHTS, harm.cut),
    ),
    Bad(
        "weights with a turned bit",
        BROKEN_MODEL + f"damaged: its header cannot be read: {BRING}",
        to(harm.WEIGHTS, harm.turn_bit_of_header),
    ),
    Bad("no weights", BROKEN_MODEL + f"missing: {BRING}", to(harm.WEIGHTS, Path.unlink)),
    Bad(
        "half a configuration",
        BROKEN_MODEL.replace("model.safetensors", "config.json") + f"damaged: {BRING}",
        to("model/config.json", harm.cut),
    ),
    Bad(
        "no configuration",
        f"The base model has no config.json in the workspace: {BRING}",
        to("model/config.json", Path.unlink),
    ),
    Bad(
        "tokens that were cut off",
        BROKEN_DATA + f"train/tokens.npy is damaged: {BRING}",
        to("data/train/tokens.npy", harm.cut),
    ),
    Bad(
        "no tokens",
        BROKEN_DATA + f"train/tokens.npy is missing: {BRING}",
        to("data/train/tokens.npy", Path.unlink),
    ),
    Bad(
        "an example that ends before it begins",
        BROKEN_DATA + f"the files in validation/ do not belong together: {BRING}",
        to("data/validation/offsets.npy", harm.shift_offset),
    ),
    Bad(
        "no prepared data",
        f"The workspace holds no prepared data: {BRING}",
        to("data", shutil.rmtree),
    ),
    Bad(
        "data of another run",
        "The workspace holds data of plan 77aa0c, not of 0f4c2b6a9d31, because another run has "
        "used it: name a claim in spec.storage.claimName that no other run has, and set "
        "spec.rerunToken to another value.",
        harm.other_plan,
    ),
    Bad(
        "an empty training split",
        "spec.dataset.split has no example to train on; choose another split.",
        harm.no_examples("train"),
    ),
    Bad(
        "an empty validation split",
        "spec.dataset.validation has no example to measure on: choose another split or a larger "
        "fraction, or leave validation out.",
        harm.no_examples("validation"),
    ),
    # numbers
    Bad(
        "NaN in the base",
        "The validation loss is nan before the first step: the base model does not work with this "
        "precision or data; set spec.training.precision to Float32 or choose another "
        "spec.model.source.",
        harm.nan_in_base,
        NON_FINITE,
    ),
    Bad(
        "NaN in the base, and nothing to validate on",
        SKIPPED.format(3) + "set spec.training.precision to Float32, choose another "
        "spec.model.source, or correct the data.",
        harm.nan_without_validation,
        NON_FINITE,
    ),
    Bad(
        "a token that the base cannot compute",
        SKIPPED.format(7) + "lower spec.training.learningRate (now 0.01) or correct the data.",
        harm.token_that_is_nan,
        NON_FINITE,
    ),
    Bad(
        "a learning rate that diverges",
        SKIPPED.format("*") + "lower spec.training.learningRate (now 1e+38) or correct the data.",
        outcome=NON_FINITE,
        training={"learningRate": "1e38", "maxGradNorm": "0"},
    ),
    # the method
    Bad(
        "a rank larger than a layer",
        "spec.method.lora.rank is 64, larger than model.layers.0.self_attn.q_proj (32 to 32 "
        "values): set it to 32 or less, or leave this module out of "
        "spec.method.lora.targetModules.",
        method=lora(rank=64),
    ),
    Bad(
        "an unknown target module",
        f'spec.method.lora.targetModules names "query_proj", which the model does not have; '
        f"{LINEAR}",
        method=lora(targetModules=["query_proj"]),
    ),
    Bad(
        "a target that LoRA cannot adapt",
        "spec.method.lora.targetModules names what LoRA cannot adapt (q_proj is Linear; "
        f"input_layernorm is LlamaRMSNorm); {LINEAR}",
        method=lora(targetModules=["q_proj", "input_layernorm"]),
    ),
    Bad(
        "an unknown module to save",
        f'spec.method.lora.modulesToSave names "pooler", which the model does not have; {LINEAR}',
        method=lora(modulesToSave=["pooler"]),
    ),
    Bad(
        "a target inside a module to save",
        'spec.method.lora.targetModules names "q_proj", which is trained whole with "self_attn" '
        'and can have no adapter: remove it from there, or "self_attn" from '
        "spec.method.lora.modulesToSave.",
        method=lora(targetModules=["q_proj", "up_proj"], modulesToSave=["self_attn"]),
    ),
    Bad(
        "DoRA that begins as a part of an embedding",
        "spec.method.lora.initialization takes the adapters' values out of linear layers, and "
        "model.embed_tokens is Embedding: set it to Default, or leave the module out of "
        "spec.method.lora.targetModules.",
        method=lora(dora=True, initialization="PiSSA", targetModules=["embed_tokens"]),
    ),
    Bad(
        "NF4 in a base that a part is taken out of",
        "spec.method.lora.initialization takes the adapters' values out of linear layers, and "
        "model.layers.0.self_attn.q_proj is Linear4bit: set it to Default, or leave the module "
        "out of spec.method.lora.targetModules.",
        method=lora(quantization="NF4", initialization="OLoRA"),
    ),
    Bad(
        "NF4 in slices",
        "spec.parallelism.strategy DeepSpeed in stage 3 cannot share weights that "
        "spec.method.lora.quantization packs: set the strategy to FSDP or DDP, or remove "
        "quantization.",
        method=lora(quantization="NF4"),
        plan=strategy("DeepSpeed"),
    ),
    Bad(
        "IA3 with DeepSpeed",
        "spec.parallelism.strategy DeepSpeed is for spec.method.lora, adapter and full, and not "
        "for spec.method.ia3: set the strategy to DDP.",
        method={"ia3": {}},
        plan=strategy("DeepSpeed"),
    ),
    Bad(
        "Adafactor with DeepSpeed",
        "spec.parallelism.strategy DeepSpeed has parts of matrices, and spec.training.optimizer "
        "Adafactor needs whole ones: set the strategy to DDP, or the optimizer's type to AdamW.",
        training={"optimizer": {"type": "Adafactor"}},
        plan=strategy("DeepSpeed"),
    ),
    # a plan that this image does not know
    Bad(
        "float16",
        "The trainer image cannot read its plan WORKSPACE/run.json (training.precision: Input "
        f"should be 'Auto', 'Bfloat16' or 'Float32'): {OTHER_IMAGE}",
        training={"precision": "Float16"},
    ),
    Bad(
        "an unknown optimizer",
        "The trainer image cannot read its plan WORKSPACE/run.json (training.optimizer.type: Input "
        f"should be 'AdamW', 'Adafactor', 'RMSprop' or 'SGD'): {OTHER_IMAGE}",
        training={"optimizer": {"type": "Lion"}},
    ),
    Bad(
        "an unknown stage of ZeRO",
        "The trainer image cannot read its plan WORKSPACE/run.json (parallelism.deepspeed.stage: "
        f"Input should be 1, 2 or 3): {OTHER_IMAGE}",
        plan=strategy("DeepSpeed", deepspeed={"stage": 4}),
    ),
    # a loss of one's own
    Bad(
        "a loss in a module that is not there",
        "spec.training.loss names no_loss:f, which cannot be imported (ModuleNotFoundError: No "
        f"module named 'no_loss'): {IMPORTED}",
        training={"loss": {"module": "no_loss", "function": "f"}},
    ),
    loss(
        "that is not in its module",
        "spec.training.loss names my_loss:f, which cannot be imported (AttributeError: module "
        f"'my_loss' has no attribute 'f'): {IMPORTED}",
        "def focal(logits, targets): return logits.sum()",
    ),
    loss(
        "that fails",
        f"{LOSS} failed (ZeroDivisionError: division by zero): it is given logits (n, vocabulary) "
        "and the tokens to predict (n).",
        "def f(logits, targets): return logits.sum() / 0 if 0 else 1 / 0",
    ),
    loss(
        "of each token",
        f"{LOSS} returned [12] for 12 tokens: it must return the sum of their losses, a tensor "
        "without dimensions.",
        "def f(logits, targets): return logits.sum(1)",
    ),
    loss(
        "that is no number",
        SKIPPED.format(7) + "correct spec.training.loss, or the data.",
        "def f(logits, targets): return logits.sum() * float('nan')",
        NON_FINITE,
    ),
    # the machine
    Bad(
        "a full volume",
        "The workspace volume is full: set spec.storage.size to a larger size.",
        harm.full_volume,
    ),
    Bad(
        "files that may not become so large",
        "The workspace's file system takes no file as large as one of this run: set "
        "spec.storage.storageClassName to a class whose file system does.",
        before=harm.small_files,
    ),
    Bad(
        "a read-only workspace",
        "WORKSPACE/history.jsonl.tmp cannot be used (Permission denied): " + CLAIM,
        to("", harm.close),
        before=harm.no_privilege,
    ),
    Bad(
        "checkpoints that may not be written",
        "WORKSPACE/checkpoints/step-6.tmp cannot be used (Permission denied): " + CLAIM,
        to("checkpoints", harm.close),
        before=harm.no_privilege,
    ),
    Bad(
        "no memory for the base",
        f"train ran out of memory: {MORE_ROOM}",
        harm.large_base,
        OUT_OF_MEMORY,
        before=harm.little_memory,
    ),
    Bad(
        "no accelerator",
        "spec.resources.gpusPerNode is 1, but this pod sees no accelerator: check "
        "spec.scheduling.runtimeClassName and the device plugin of its node.",
        outcome=RETRYABLE,
        plan={"resources": {"nodes": 1, "gpusPerNode": 1}},
    ),
    # other ranks
    Bad(
        "more processes than sequences",
        "spec.training.sequencesPerStep is 4, too few for 5 processes (spec.resources.nodes times "
        "spec.resources.gpusPerNode): raise it to 5 or a multiple, or ask for fewer accelerators.",
        environment={**TWO_PODS, "FINETUNE_NODES": "5"},
    ),
    Bad(
        "a pod that never comes",
        "The 2 processes of the run did not meet at 127.0.0.1:29477 within 0 minutes: rank 1 did "
        "not come: look why its pod does not run, or lower spec.resources.nodes.",
        outcome=RETRYABLE,
        before=harm.no_patience,
        environment=TWO_PODS,
    ),
    Bad(
        "a module that is never called, on several ranks",
        "2 of * trained tensors got no gradient in the first step (idle.lora_A.default.weight, "
        "idle.lora_B.default.weight), because the model does not use them: leave these modules "
        "out of spec.method.lora.targetModules.",
        harm.begin_anew,
        before=harm.a_module_that_is_never_called,
        environment={"FINETUNE_PROCESSES_PER_NODE": "2"},
    ),
    Bad(
        "a rank that is killed",
        "A training process was killed (signal 9), most likely for want of memory: " + MORE_ROOM,
        outcome=OUT_OF_MEMORY,
        training={"maxSteps": 5000},
        before=harm.kill_a_rank_later,
        environment={"FINETUNE_PROCESSES_PER_NODE": "2"},
    ),
)
