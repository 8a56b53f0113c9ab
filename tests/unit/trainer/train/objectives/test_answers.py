"""Log-probabilities of whole answers, as a model in bfloat16 has them."""

import pytest
import torch
from torch import Tensor

from finetune_trainer.data.answers import answers_of
from finetune_trainer.run import Preference
from finetune_trainer.train.objectives.answers import AnswerBatch, AnswerModel, Rows
from finetune_trainer.train.objectives.preference_losses import Pair, dpo, kto
from finetune_trainer.train.probe import Abilities
from finetune_trainer.train.speed.head import decode
from unit.trainer.tiny import tiny_model
from unit.trainer.train.made import preference_pairs

CPU = torch.device("cpu")
BETA = 0.5


def losses(loss: str, policy: Tensor, reference: Tensor) -> Tensor:
    """Of pairs, or of their answers."""
    if loss == "DPO":
        both = (Pair(each[0::2], each[1::2]) for each in (policy, reference))
        return dpo(*both, beta=BETA).losses
    desirable = torch.arange(len(policy)) % 2 == 0
    rewards = BETA * (policy - reference)
    return kto(rewards, desirable, zero=torch.tensor(0.1), weights=(1.0, 1.0))


@pytest.mark.parametrize("loss", ["DPO", "KTO"])
def test_losses_are_nearer_to_float32s_where_the_heads_targets_are_not_rounded(loss: str) -> None:
    model = tiny_model().bfloat16().eval().requires_grad_(False)
    rows = Rows(capacity=4096, padded=True, shared=False, device=CPU)
    batch = rows.collate([each for pair in preference_pairs(64) for each in answers_of(pair)])

    def log_probabilities(plain: bool) -> Tensor:
        abilities = Abilities(
            shared_rows=False, shared_prefixes=False, separable_head=True, plain_head=plain
        )
        answers = AnswerModel(model, abilities, Preference(), adapter=None, autocast=None)
        return answers.log_probabilities(batch)

    exact = with_a_float32_head(model, batch)
    torch.manual_seed(0)
    reference = exact + torch.randn_like(exact)
    spread = [
        float((losses(loss, found, reference) - losses(loss, exact, reference)).std())
        for found in (log_probabilities(True), log_probabilities(False))
    ]
    assert 0 < spread[0] < 0.5 * spread[1]


def with_a_float32_head(model: torch.nn.Module, batch: AnswerBatch) -> Tensor:
    """log p of every answer, the decoder in bfloat16 all the same."""
    rows = decode(model, batch).last_hidden_state.flatten(0, 1)[batch.positions]
    logs = (rows.float() @ model.lm_head.weight.float().T).log_softmax(-1)
    each = logs.gather(1, batch.targets[:, None]).squeeze(1)
    return each.new_zeros(len(batch.counts)).index_add(0, batch.owners, each)
