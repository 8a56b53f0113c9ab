import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from finetune_trainer.data.packing import best_fit, plan_epoch, steps_per_epoch, total_steps

CAPACITY = 64


def lengths(count: int = 500) -> NDArray[np.int64]:
    return np.random.default_rng(7).integers(1, CAPACITY + 1, size=count)


def packs(epoch: int = 0, seed: int = 0, packing: bool = True) -> list[list[int]]:
    return plan_epoch(lengths(), capacity=CAPACITY, packing=packing, seed=seed, epoch=epoch)[:]


def test_no_pack_exceeds_the_capacity() -> None:
    sizes = lengths()
    assert max(sum(int(sizes[index]) for index in pack) for pack in packs()) <= CAPACITY


def test_every_example_is_in_exactly_one_pack() -> None:
    assert sorted(index for pack in packs() for index in pack) == list(range(500))


def test_the_same_seed_and_epoch_give_the_same_packs() -> None:
    assert packs(epoch=3, seed=5) == packs(epoch=3, seed=5)


def test_another_epoch_packs_differently_into_as_many_sequences() -> None:
    first, second = packs(epoch=0), packs(epoch=1)
    assert {frozenset(pack) for pack in first} != {frozenset(pack) for pack in second}
    assert len({len(packs(epoch=epoch)) for epoch in range(5)}) == 1


def test_the_packing_is_tight() -> None:
    assert len(packs()) <= 1.05 * lengths().sum() / CAPACITY


def test_length_and_position_are_not_correlated() -> None:
    sizes = lengths()
    longest = [max(int(sizes[index]) for index in pack) for pack in packs()]
    assert abs(float(np.corrcoef(longest, np.arange(len(longest)))[0, 1])) < 0.2


def test_without_packing_every_example_stands_alone_and_the_order_is_shuffled() -> None:
    plan = packs(packing=False)
    assert sorted(plan) == [[index] for index in range(500)]
    assert plan != sorted(plan)


def test_an_example_longer_than_the_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match="65 tokens does not fit into 64"):
        plan_epoch(np.array([65]), capacity=CAPACITY, packing=True, seed=0, epoch=0)


def test_no_examples_make_no_sequences() -> None:
    empty = np.empty(0, dtype=np.int64)
    plan = plan_epoch(empty, capacity=CAPACITY, packing=True, seed=0, epoch=0)
    assert len(plan) == 0
    assert plan[:] == []


def test_the_last_step_of_an_epoch_may_be_smaller() -> None:
    assert [steps_per_epoch(sequences, 4) for sequences in (0, 1, 4, 5)] == [0, 1, 1, 2]


@pytest.mark.parametrize(("epochs", "factor"), [(None, 1), (1, 1), (3, 3)])
def test_steps_are_counted_over_all_epochs(epochs: int | None, factor: int) -> None:
    assert steps(epochs=epochs, max_steps=None) == factor * -(-len(packs()) // 8)


def test_max_steps_overrules_epochs() -> None:
    assert steps(epochs=3, max_steps=17) == 17


def steps(epochs: int | None, max_steps: int | None) -> int:
    return total_steps(
        lengths(),
        capacity=CAPACITY,
        packing=True,
        seed=0,
        sequences_per_step=8,
        epochs=epochs,
        max_steps=max_steps,
    )


def test_a_span_of_sequences_is_that_part_of_all() -> None:
    plan = plan_epoch(lengths(), capacity=CAPACITY, packing=True, seed=0, epoch=0)
    assert len(plan[:]) == len(plan)
    assert plan[3:7] == plan[:][3:7]
    assert plan[len(plan) - 1 : len(plan) + 5] == plan[:][-1:]
    assert plan[5:2] == []


@pytest.mark.parametrize("sizes", [lengths(), np.sort(lengths())[::-1], np.full(100, 10)])
def test_an_item_goes_where_the_least_room_is_left(sizes: NDArray[np.int64]) -> None:
    filled: list[int] = []
    for size, pack in zip(sizes.tolist(), best_fit(sizes, CAPACITY).tolist(), strict=True):
        rooms = [CAPACITY - used for used in filled if used + size <= CAPACITY]
        if pack == len(filled):
            assert not rooms
            filled.append(0)
        else:
            assert CAPACITY - filled[pack] == min(rooms)
        filled[pack] += size


def test_ten_million_examples_are_planned_in_a_few_hundred_megabytes() -> None:
    many = np.random.default_rng(1).integers(1, 4097, size=10_000_000)
    tracemalloc.start()
    plan_epoch(many, capacity=4096, packing=True, seed=0, epoch=0)
    assert tracemalloc.get_traced_memory()[1] < 450e6
    tracemalloc.stop()
