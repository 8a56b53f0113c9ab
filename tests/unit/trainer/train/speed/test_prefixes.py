"""What is computed once instead of for every document changes no loss and no gradient."""

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedModel

from finetune_trainer.data.examples import Example
from finetune_trainer.train.batches import collate, sharing_batches
from finetune_trainer.train.probe import probe
from finetune_trainer.train.speed.layout import BLOCK
from finetune_trainer.train.speed.loss import SummedLoss
from finetune_trainer.train.speed.prefixes import NO_PARENT, share
from unit.trainer.tiny import SMALL, tiny_model

CPU = torch.device("cpu")


def document(*parts: tuple[int, int], supervised: int = 5) -> Example:
    """The tokens of `parts`, each `length` counted on from `start`; the last few are supervised."""
    tokens = np.concatenate([4 + (start + np.arange(length)) % 90 for start, length in parts])
    return Example(
        tokens=tokens.astype(np.int32),
        supervised=np.arange(len(tokens)) >= len(tokens) - supervised,
    )


SYSTEM = (0, 20)
FAMILY = [
    document(SYSTEM, (3, 30)),
    document((50, 12)),
    document(SYSTEM, (7, 11), (40, 9)),
    document(SYSTEM, (7, 11), (60, 17)),
    document(SYSTEM, (7, 11), (60, 17), supervised=30),
    document(SYSTEM),
]


def test_a_common_beginning_is_in_the_row_once() -> None:
    forest = share([each.tokens for each in FAMILY])
    assert len(forest.tokens) == 20 + 30 + 12 + 11 + 9 + 17
    for example, rows in zip(FAMILY, forest.rows, strict=True):
        assert forest.tokens[rows].tolist() == example.tokens.tolist()
    roots = [segment for segment in forest.segments if segment.parent == NO_PARENT]
    assert sorted(segment.length for segment in roots) == [12, 20]


def test_what_would_save_too_little_is_not_shared() -> None:
    forest = share([document((0, 5), (10, 20)).tokens, document((0, 5), (50, 20)).tokens])
    assert [segment.length for segment in forest.segments] == [25, 25]


def models() -> list[PreTrainedModel]:
    torch.manual_seed(0)
    windowed = MistralForCausalLM(MistralConfig(**SMALL, sliding_window=6))
    return [tiny_model(), windowed]


@pytest.mark.parametrize("model", models(), ids=["llama", "sliding window"])
def test_losses_and_gradients_are_those_of_separate_documents(model: PreTrainedModel) -> None:
    assert probe(model.eval(), 64).shared_prefixes
    loss = SummedLoss(model.train(), separable_head=True)
    values, gradients = [], []
    for shared in (False, True):
        model.zero_grad()
        batch = collate(FAMILY, padded=False, device=CPU, shared=shared)
        value = loss(batch)
        value.backward()
        values.append(value.detach())
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
        assert batch.tokens == sum(len(each.tokens) for each in FAMILY)
    torch.testing.assert_close(values[1], values[0], rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_document_longer_than_a_block_attends_to_all_of_itself_and_its_prefix() -> None:
    torch.manual_seed(0)
    model = tiny_model().eval()
    probe(model, 4 * BLOCK)
    loss = SummedLoss(model, separable_head=True)
    long = [document((0, BLOCK + 40), (start, 2 * BLOCK + 3)) for start in (1, 2)]
    with torch.no_grad():
        shared, separate = (
            loss(collate(long, padded=False, device=CPU, shared=each)) for each in (True, False)
        )
    torch.testing.assert_close(shared, separate, rtol=1e-5, atol=1e-5)


def test_a_changed_document_leaves_its_siblings_bit_for_bit() -> None:
    model: LlamaForCausalLM = tiny_model().eval()
    probe(model, 64)
    changed = [*FAMILY[:3], document(SYSTEM, (7, 11), (61, 17)), *FAMILY[4:]]
    seen = []
    for documents in (FAMILY[:4], changed[:4]):
        batch = collate(documents, padded=False, device=CPU, shared=True)
        rows = share([each.tokens for each in documents]).rows
        with torch.no_grad():
            logits = model(
                input_ids=batch.input_ids,
                position_ids=batch.position_ids,
                layout=batch.layout.handle(),  # type: ignore[union-attr]
            ).logits[0]
        seen.append([logits[places] for places in rows[:3]])
    for one, other in zip(*seen, strict=True):
        assert torch.equal(one, other)


def test_documents_that_begin_alike_run_together_and_count_once() -> None:
    families = [
        [document((start, 24), (other, 6)).tokens] for other in range(4) for start in (0, 40)
    ]
    batches = sharing_batches([list(range(8))], families.__getitem__, capacity=50)
    assert sorted(index for batch in batches for index in batch) == list(range(8))
    assert sorted(sorted(index % 2 for index in batch) for batch in batches) == [[0] * 4, [1] * 4]


def test_a_random_model_shares_nothing() -> None:
    model = tiny_model(attention_dropout=0.1).eval()
    abilities = probe(model, 64)
    assert abilities.shared_rows
    assert not abilities.shared_prefixes
