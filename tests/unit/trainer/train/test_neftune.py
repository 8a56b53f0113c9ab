"""Noise on embeddings: as large as the paper says for each document, and only while training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from finetune_trainer.outcome import PreemptedError
from finetune_trainer.train import recipe
from finetune_trainer.train.neftune import add_noise, document_lengths
from finetune_trainer.train.recipe import train
from finetune_trainer.train.stop import Stop
from unit.trainer.tiny import tiny_model
from unit.trainer.train.made import StopAfter, plan, prepared_workspace
from unit.trainer.train.methods.made import VIRTUAL_TOKENS
from unit.trainer.train.runs import losses, stock_loss, weights

ALPHA = "5"


def test_a_row_knows_the_length_of_each_of_its_documents() -> None:
    positions = torch.tensor([[0, 1, 2, 0, 1, 0]])
    assert document_lengths(positions, None).tolist() == [[3, 3, 3, 2, 2, 1]]
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    assert document_lengths(torch.zeros(2, 3), mask).tolist() == [[3, 3, 3], [1, 1, 1]]


def test_noise_is_uniform_and_smaller_in_longer_documents() -> None:
    model = tiny_model().train()
    seen = []
    embeddings = model.get_input_embeddings()
    ids = torch.arange(4, 44)[None]
    plain = embeddings(ids)
    add_noise(model, 5.0)
    embeddings.register_forward_hook(lambda module, args, output: seen.append(output - plain))
    positions = torch.cat([torch.arange(4), torch.arange(36)])[None]
    model(input_ids=ids, position_ids=positions)
    for part, length in ((seen[0][:, :4], 4), (seen[0][:, 4:], 36)):
        bound = 5.0 / (length * 32) ** 0.5
        assert 0.9 * bound < float(part.detach().abs().max()) <= bound
        assert float(part.detach().mean()) == pytest.approx(0, abs=0.2 * bound)


def test_an_evaluation_has_no_noise() -> None:
    model = tiny_model().eval()
    ids = torch.arange(4, 44)[None]
    with torch.no_grad():
        before = model(ids).logits
        add_noise(model, 5.0)
        assert torch.equal(model(ids).logits, before)


@pytest.mark.parametrize("method", [None, VIRTUAL_TOKENS["prompt"]], ids=["lora", "prompt"])
def test_it_learns_with_noise_and_goes_on_bit_for_bit(
    method: dict[str, object] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    run = plan(method, epochs=3, neftuneNoiseAlpha=ALPHA)
    straight = prepared_workspace(tmp_path / "straight")
    _, expected = train(run, straight, Stop())
    assert expected["validationLoss"] < expected["baseValidationLoss"]
    without = prepared_workspace(tmp_path / "without")
    train(plan(method, epochs=3), without, Stop())
    assert losses(without) != losses(straight)
    stopped = prepared_workspace(tmp_path / "stopped")
    with monkeypatch.context() as patch, pytest.raises(PreemptedError):
        train(run, stopped, StopAfter(4).arm(recipe, patch))
    train(run, stopped, Stop())
    assert losses(stopped) == losses(straight)
    resumed = weights(stopped)
    for name, tensor in weights(straight).items():
        assert torch.equal(resumed[name], tensor), name


def test_nothing_of_it_is_saved(tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path)
    run = plan({"full": {}}, epochs=1, neftuneNoiseAlpha=ALPHA)
    _, result = train(run, workspace, Stop())
    base = load_file(workspace.model / "model.safetensors")
    assert load_file(workspace.merged / "model.safetensors").keys() == base.keys()
    model = type(tiny_model()).from_pretrained(workspace.merged)
    assert stock_loss(model, workspace) == pytest.approx(result["validationLoss"], abs=1e-4)
