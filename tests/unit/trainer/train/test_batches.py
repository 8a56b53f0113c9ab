"""Which sequences a step takes, and how they become passes."""

from typing import Any

import numpy as np
import pytest
import torch

from finetune_trainer.data.packing import Sequences, plan_epoch
from finetune_trainer.run import Training
from finetune_trainer.train import batches
from finetune_trainer.train.batches import collate, micro_batches, steps_from
from unit.trainer.train.made import random_examples

LENGTHS = np.array([9, 3, 30, 12, 7, 5, 21, 2, 16], dtype=np.int64)


def training(**values: object) -> Training:
    return Training.model_validate({"sequenceLength": 32, "sequencesPerStep": 2, **values})


def test_an_epoch_trains_every_example_once() -> None:
    plans = list(steps_from(0, 3, LENGTHS, training(packing=True)))
    one_epoch = [plan for plan in plans if plan.epoch <= 1]
    assert one_epoch[-1].epoch == 1.0
    assert sorted(i for plan in one_epoch for pack in plan.sequences for i in pack) == list(
        range(9)
    )


def test_starting_later_continues_the_same_order() -> None:
    for packing in (True, False):
        whole = list(steps_from(0, 12, LENGTHS, training(packing=packing)))
        assert len(whole) == 12
        assert list(steps_from(7, 12, LENGTHS, training(packing=packing))) == whole[7:]


def test_epochs_that_a_resumed_run_has_behind_it_are_not_planned_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planned: list[int] = []

    def noted(*args: Any, epoch: int, **settings: Any) -> Sequences:
        planned.append(epoch)
        return plan_epoch(*args, epoch=epoch, **settings)

    settings = training(packing=False)
    whole = list(steps_from(0, 30, LENGTHS, settings))
    monkeypatch.setattr(batches, "plan_epoch", noted)
    assert list(steps_from(23, 30, LENGTHS, settings)) == whole[23:]
    assert planned == [0, 4, 5]  # five steps in each; the first tells that


def test_micro_batches_hold_everything_once_within_the_capacity() -> None:
    for padded in (True, False):
        alone = [[index] for index in range(9)]
        batches = micro_batches(alone, LENGTHS, capacity=32, padded=padded)
        assert sorted(index for batch in batches for index in batch) == list(range(9))
        for batch in batches:
            lengths = LENGTHS[batch]
            room = len(batch) * lengths.max() if padded else lengths.sum()
            assert room <= 32


def test_packs_stay_whole_so_that_there_are_no_more_passes_than_packs() -> None:
    lengths = np.random.default_rng(0).lognormal(3, 1, 2000).clip(4, 256).astype(np.int64)
    for plan in steps_from(0, 20, lengths, training(sequenceLength=256, sequencesPerStep=8)):
        batches = micro_batches(plan.sequences, lengths, capacity=256, padded=False)
        assert len(batches) <= len(plan.sequences)
        for pack in plan.sequences:
            assert any(set(pack) <= set(batch) for batch in batches)


def test_a_shared_row_restarts_positions_and_remembers_lengths() -> None:
    documents = random_examples(3)
    batch = collate(documents, padded=False, device=torch.device("cpu"))
    lengths = [len(document.tokens) for document in documents]
    assert batch.input_ids.shape == (1, sum(lengths))
    assert batch.layout is not None
    assert batch.layout.documents == tuple(lengths)
    assert batch.attention_mask is None
    assert batch.position_ids[0].tolist() == [i for length in lengths for i in range(length)]


def test_padding_is_masked_and_not_counted() -> None:
    documents = random_examples(3)
    batch = collate(documents, padded=True, device=torch.device("cpu"))
    lengths = [len(document.tokens) for document in documents]
    assert batch.input_ids.shape == (3, max(lengths))
    assert batch.attention_mask is not None
    assert batch.attention_mask.sum(dim=1).tolist() == lengths
    assert batch.tokens == sum(lengths)
