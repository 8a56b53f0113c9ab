"""An accelerator that was paid for is used, or the run says why not."""

from pathlib import Path

import pytest
import torch

from finetune_trainer.outcome import RetryableError
from finetune_trainer.train.device import available_memory_bytes, choose_device


@pytest.fixture
def usable(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many accelerators torch finds."""
    count = int(request.param)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    return count


@pytest.mark.parametrize("usable", [0], indirect=True)
def test_a_machine_without_accelerators_computes_on_its_cpu(usable: int, tmp_path: Path) -> None:
    assert choose_device(0, asked=0, devices=tmp_path).type == "cpu"


@pytest.mark.parametrize("usable", [0], indirect=True)
def test_accelerators_asked_for_and_not_seen_are_not_replaced_by_the_cpu(
    usable: int, tmp_path: Path
) -> None:
    with pytest.raises(RetryableError, match=r"gpusPerNode is 1, .*runtimeClassName"):
        choose_device(0, asked=1, devices=tmp_path)


@pytest.mark.parametrize("usable", [0], indirect=True)
def test_unless_the_cluster_only_pretends_to_have_some(
    usable: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_ALLOW_CPU", "true")
    assert choose_device(0, asked=1, devices=tmp_path).type == "cpu"


@pytest.mark.parametrize("usable", [2], indirect=True)
def test_every_process_takes_its_own_accelerator(usable: int, tmp_path: Path) -> None:
    chosen = [choose_device(rank, usable, asked=usable, devices=tmp_path) for rank in range(usable)]
    assert [device.index for device in chosen] == [0, 1]


@pytest.mark.parametrize("usable", [0], indirect=True)
def test_an_accelerator_that_cuda_cannot_use_is_not_replaced_by_the_cpu(
    usable: int, tmp_path: Path
) -> None:
    (tmp_path / "nvidia0").touch()
    with pytest.raises(RetryableError, match="check that the driver of its node is new enough"):
        choose_device(0, asked=0, devices=tmp_path)


@pytest.mark.parametrize("usable", [0], indirect=True)
def test_accelerators_that_are_hidden_from_a_process_are_none_of_its_own(
    usable: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvidia0").touch()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert choose_device(0, asked=0, devices=tmp_path).type == "cpu"
    with pytest.raises(RetryableError, match="gpusPerNode is 1"):
        choose_device(0, asked=1, devices=tmp_path)


@pytest.mark.parametrize("usable", [1], indirect=True)
def test_two_processes_do_not_share_an_accelerator(usable: int, tmp_path: Path) -> None:
    with pytest.raises(RetryableError, match=r"1 accelerator\(s\) for 2 processes"):
        choose_device(0, 2, asked=2, devices=tmp_path)


def test_processes_of_a_container_share_its_memory(tmp_path: Path) -> None:
    host = available_memory_bytes(torch.device("cpu"), 1, root=tmp_path)
    limit = tmp_path / "sys/fs/cgroup/memory.max"
    limit.parent.mkdir(parents=True)
    limit.write_text("max\n")
    assert available_memory_bytes(torch.device("cpu"), 1, root=tmp_path) == host
    limit.write_text("1000000\n")
    assert available_memory_bytes(torch.device("cpu"), 4, root=tmp_path) == 250_000
