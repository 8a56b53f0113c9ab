"""What one of several ranks holds of a model, and that it is what was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import PreTrainedModel

from finetune_trainer.outcome import DefectError
from finetune_trainer.run import Fsdp, Lora
from finetune_trainer.train.engines.sharded import Sharded, require_sharded
from finetune_trainer.train.methods.lora import add_lora
from finetune_trainer.train.methods.quantization import nf4, quantize_later
from finetune_trainer.train.model import load_base
from finetune_trainer.train.optimizer import make_optimizer
from finetune_trainer.train.parallel import Group, Ranks
from unit.trainer.tiny import write_tiny_model

CPU = torch.device("cpu")
RANKS = 4


@pytest.fixture
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A model's, with `request.param` as its settings."""
    return write_tiny_model(tmp_path, **getattr(request, "param", {}))


@pytest.fixture
def group(files: Path) -> Iterator[Group]:
    """The second of four ranks, whose peers do not exist: no operation between them is done."""
    distributed.init_process_group("fake", store=FakeStore(), rank=1, world_size=RANKS)
    yield Group(Ranks(rank=1, world_size=RANKS), CPU)
    distributed.destroy_process_group()


def mapped(directory: Path) -> list[tuple[int, int]]:
    """Where in this process's memory files of `directory` are mapped."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    spans = [line.split()[0].split("-") for line in lines if f"{directory}/" in line]
    return [(int(start, 16), int(end, 16)) for start, end in spans]


def shard(model: PreTrainedModel, group: Group, frozen: torch.dtype) -> Sharded:
    def optimizer(parameters: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
        return make_optimizer(parameters, weight_decay=0.0)

    return Sharded(model, optimizer, group, settings=Fsdp(), frozen=frozen)


@pytest.mark.parametrize("files", [{"tie_word_embeddings": False}], indirect=True)
def test_files_are_mapped_and_a_rank_keeps_only_its_slices_of_them(
    group: Group, files: Path
) -> None:
    model = load_base(files, dtype="auto", device=CPU)
    spans = mapped(files)
    places = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
    for name, place in places.items():
        assert any(start <= place < end for start, end in spans), name
    whole = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    shard(model, group, torch.float32)

    assert not mapped(files)
    held = 0
    for name, parameter in model.named_parameters():
        local = parameter.to_local()
        held += local.untyped_storage().nbytes()
        torch.testing.assert_close(local, whole[name].chunk(RANKS)[1], rtol=0, atol=0)
    assert held == sum(value.nbytes for value in whole.values()) / RANKS


@pytest.mark.parametrize("later", [True, False], ids=["from files", "from a model"])
def test_a_rank_keeps_its_slices_of_packed_weights_and_all_their_scales(
    later: bool, group: Group, files: Path
) -> None:
    model = load_base(
        files, dtype=torch.float32, device=CPU, quantization=nf4(files, (), torch.float32)
    )
    layers = {name: each for name, each in model.named_modules() if isinstance(each, Linear4bit)}
    packed = {name: layer.weight.data.clone() for name, layer in layers.items()}
    scales = {name: layer.quant_state for name, layer in layers.items()}
    del layers
    if later:
        model = load_base(files, dtype="auto", device=CPU)
        quantize_later(model, (), torch.float32)

    shard(model, group, torch.float32)

    assert not mapped(files)
    assert packed
    for name, expected in packed.items():
        layer = model.get_submodule(name)
        mine = layer.weight.to_local()
        assert mine.untyped_storage().nbytes() == expected.nbytes // RANKS
        assert torch.equal(mine, expected.chunk(RANKS)[1])
        assert layer.quant_state == scales[name]


def test_frozen_weights_take_the_compute_format_and_adapters_stay_float32(
    group: Group, files: Path
) -> None:
    model = load_base(files, dtype="auto", device=CPU)
    add_lora(model, Lora(rank=4))

    engine = shard(model, group, torch.bfloat16)

    formats = {(parameter.requires_grad, parameter.dtype) for parameter in model.parameters()}
    assert formats == {(False, torch.bfloat16), (True, torch.float32)}
    assert all("lora_" in name for name in engine.parameters)


def test_tied_weights_stay_tied(group: Group, files: Path) -> None:
    model = load_base(files, dtype="auto", device=CPU)

    engine = shard(model, group, torch.float32)

    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert "lm_head.weight" not in engine.parameters


def test_a_parameter_that_is_not_sharded_is_found(group: Group, files: Path) -> None:
    model = load_base(files, dtype="auto", device=CPU)
    mesh = init_device_mesh("cpu", (RANKS,))
    with pytest.raises(DefectError, match=r"FSDP is not in force: model\.embed_tokens\.weight"):
        require_sharded(model, mesh)
