"""When compiling pays, and that a compiled model computes what it did."""

from pathlib import Path

import pytest
import torch

from finetune_trainer.run import Compile, Lora
from finetune_trainer.train.batches import collate
from finetune_trainer.train.methods.lora import add_lora
from finetune_trainer.train.probe import probe
from finetune_trainer.train.speed import compiling
from finetune_trainer.train.speed.compiling import (
    cache_key_of,
    can_compile,
    compile_layers,
    has_compiler,
    pays,
)
from finetune_trainer.train.speed.lora import use_fused_lora
from finetune_trainer.train.speed.loss import SummedLoss
from unit.trainer.tiny import tiny_model
from unit.trainer.train.made import random_examples


@pytest.mark.parametrize(
    ("setting", "steps_done", "seconds_left", "can", "expected"),
    [
        (Compile.AUTO, 3, 3600, True, True),
        (Compile.AUTO, 3, 300, True, False),
        (Compile.AUTO, 2, 3600, True, False),
        (Compile.AUTO, 4, 3600, True, False),
        (Compile.AUTO, 3, 3600, False, False),
        (Compile.ALWAYS, 0, 0, True, True),
        (Compile.ALWAYS, 1, 3600, True, False),
        (Compile.ALWAYS, 0, 0, False, False),
        (Compile.NEVER, 3, 3600, True, False),
    ],
)
def test_it_pays_when_the_run_is_long_or_it_is_asked_for(
    setting: Compile, steps_done: int, seconds_left: float, can: bool, expected: bool
) -> None:
    assert pays(setting, steps_done=steps_done, seconds_left=seconds_left, can=can) is expected


def test_without_a_compiler_or_with_shards_nothing_is_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model()
    assert not can_compile(model, sharded=True)
    monkeypatch.setenv("PATH", "")
    assert not can_compile(model, sharded=False)


@pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler")
@pytest.mark.timeout(400)
def test_compiled_layers_give_the_same_loss_and_gradients() -> None:
    model = tiny_model().eval()
    abilities = probe(model, 64)
    torch.manual_seed(0)
    add_lora(model, Lora(rank=4, alpha=8))
    use_fused_lora(model)
    loss = SummedLoss(model.train(), separable_head=abilities.separable_head)
    results = []
    for compiled in (False, True):
        if compiled:
            compile_layers(model)
        for seed in (0, 1):  # rows of two lengths
            model.zero_grad()
            batch = collate(
                random_examples(4, seed), padded=False, device=torch.device("cpu"), shared=True
            )
            value = loss(batch)
            value.backward()
            results.append(
                [value.detach(), *(each.grad for each in model.parameters() if each.requires_grad)]
            )
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert torch.compiler.config.cache_key_tag
    for plain, other in zip(results[:2], results[2:], strict=True):
        for expected, actual in zip(plain, other, strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_what_another_release_compiled_is_not_run(tmp_path: Path) -> None:
    operators = tmp_path / "blocks.py"
    operators.write_text("def block_attention(query, key): ...")
    before = cache_key_of(tmp_path)
    assert cache_key_of(tmp_path) == before
    operators.write_text("def block_attention(query, key, shifts): ...")
    assert cache_key_of(tmp_path) != before


def test_a_users_own_tag_of_the_cache_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler.config, "cache_key_tag", "mine")
    monkeypatch.setattr(torch._dynamo.config, "suppress_errors", True)
    for _ in range(2):  # as two runs in one process
        compile_layers(tiny_model())
    own = cache_key_of(Path(compiling.__file__).parent)
    assert torch.compiler.config.cache_key_tag == f"mine{own}"
