"""KTO on a tiny model: its loss and gradients are the published formula's, and it learns."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from finetune_trainer.data.answers import answers_of, example_of
from finetune_trainer.data.examples import Block, Example, Examples, write_examples
from finetune_trainer.run import Run
from finetune_trainer.train.objectives.kto import Kto, mismatched
from finetune_trainer.train.outlets import open_journal
from finetune_trainer.train.parallel import Group, Ranks
from finetune_trainer.train.recipe import train
from finetune_trainer.train.setup import Context, Data, Trained, load_data, load_model
from finetune_trainer.train.speed.techniques import SWITCH
from finetune_trainer.train.stop import Stop
from finetune_trainer.workspace import Workspace
from unit.trainer.train.made import judged_answers, plan, preference_pairs, prepared_workspace

FULL: dict[str, Any] = {"full": {}}
LORA: dict[str, Any] = {"lora": {"rank": 4, "alpha": 8, "dropout": "0"}}
SETTINGS = {"loss": "KTO", "beta": "0.3", "desirableWeight": "1.2", "undesirableWeight": "0.7"}
BETA, DESIRABLE, UNDESIRABLE = 0.3, 1.2, 0.7


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def kto_plan(method: dict[str, Any] = LORA, **training: Any) -> Run:
    return plan(method, task="Preference", **{"preference": SETTINGS, **training})


@contextmanager
def loaded(workspace: Workspace, run: Run) -> Iterator[tuple[Data, Trained, Group]]:
    """What a run begins with; then the adapters are moved, so that policy and base differ."""
    group = Group(Ranks(), torch.device("cpu"))
    with open_journal(run, workspace, active=False) as journal:
        context = Context(run, workspace, group, journal)
        data, trained = load_data(context), load_model(context)
        trained.objective.begin(data.splits, trained.engine, group, workspace.checkpoints)
        torch.manual_seed(3)
        with torch.no_grad():
            for parameter in trained.engine.parameters.values():
                parameter.add_(0.05 * torch.randn_like(parameter))
        yield data, trained, group


def step(
    data: Data, trained: Trained, group: Group, documents: list[int]
) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of one step, as the recipe computes them."""
    objective, engine = trained.objective, trained.engine
    packs = [[index] for index in documents]
    engine.start_step()
    objective.look_ahead(data.train, packs, engine, group, lambda: None)
    trained.model.train()
    batches = objective.batches(data.train, packs)
    weight = 1 / objective.targets(data.train, documents)
    total = 0.0
    for number, batch in enumerate(batches):
        collated = objective.collate(data.train, batch)
        last = number == len(batches) - 1
        total += float(engine.backward(objective.step, collated, weight=weight, last=last)[0])
    gradients = {
        name: parameter.grad.clone()
        for name, parameter in engine.parameters.items()
        if parameter.grad is not None
    }
    return total * weight, gradients


def kto(trained: Trained) -> Kto:
    assert isinstance(trained.objective, Kto)
    return trained.objective


def stock_log_probability(model: Any, tokens: list[int], start: int) -> torch.Tensor:
    """Of `tokens` from `start` on, by transformers alone, a document at a time."""
    row = torch.tensor([tokens])
    each = model(input_ids=row).logits[0, :-1].log_softmax(-1)
    return each.gather(1, row[0, 1:, None])[start - 1 :].sum()


def stock_copy(workspace: Workspace, trained: Trained) -> PeftModel:
    """The same weights in PEFT's own adapters on transformers' own model."""
    base = AutoModelForCausalLM.from_pretrained(workspace.model, dtype=torch.float32)
    config = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules="all-linear")
    copy = get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in copy.named_parameters():
            if parameter.requires_grad:
                theirs = name.removeprefix("base_model.model.")
                parameter.copy_(trained.engine.parameters[theirs])
    return copy


def formula(
    policy: PeftModel, examples: list[Example], documents: list[int]
) -> tuple[torch.Tensor, float]:
    """The mean loss as TRL has it, written down document by document, and its KL estimate."""
    split = [
        [(answer.tokens.tolist(), int(np.argmax(answer.supervised)), bool(answer.labels[0]))
         for answer in answers_of(example)]
        for example in examples
    ]  # fmt: skip
    ratios, divergences = [], []
    for index in documents:
        prompt = split[index][0][0][: split[index][0][1]]
        distance = 1
        while (other := split[(index + distance) % len(split)])[0][0][: other[0][1]] == prompt:
            distance *= 2
        for place, (tokens, start, desirable) in enumerate(split[index]):
            their_tokens, their_start, _ = other[min(place, len(other) - 1)]
            mixed = prompt + their_tokens[their_start:]
            with torch.no_grad():
                kl = stock_log_probability(policy, mixed, start)
                with policy.disable_adapter():
                    kl = kl - stock_log_probability(policy, mixed, start)
                    base = stock_log_probability(policy, tokens, start)
            divergences.append(kl)
            ratios.append((stock_log_probability(policy, tokens, start) - base, desirable))
    zero = torch.stack(divergences).mean().clamp(min=0)
    losses = [
        DESIRABLE * (1 - torch.sigmoid(BETA * (ratio - zero)))
        if desirable
        else UNDESIRABLE * (1 - torch.sigmoid(BETA * (zero - ratio)))
        for ratio, desirable in ratios
    ]
    return torch.stack(losses).mean(), float(zero)


@pytest.mark.parametrize("epochs", [1, 2], ids=["reference on the way", "reference remembered"])
def test_loss_and_gradients_are_the_published_formulas(epochs: int, tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path, train=14, examples=judged_answers)
    documents = [11, 3, 8, 0, 5, 4, 9]
    with loaded(workspace, kto_plan(epochs=epochs)) as (data, trained, group):
        remembered = (workspace.checkpoints / "reference-train.npy").exists()
        assert remembered is (epochs > 1)
        loss, gradients = step(data, trained, group, documents)
        copy = stock_copy(workspace, trained)
    examples = [data.train[index] for index in range(len(data.train))]
    expected, zero = formula(copy, examples, documents)
    expected.backward()
    assert zero > 0.1  # the estimate counts
    assert kto(trained).kl == pytest.approx(zero, rel=1e-4)
    assert loss == pytest.approx(float(expected), abs=1e-6)
    compared = 0
    for name, parameter in copy.named_parameters():
        if parameter.requires_grad:
            found = gradients[name.removeprefix("base_model.model.")]
            torch.testing.assert_close(found, parameter.grad, rtol=1e-4, atol=1e-6)
            compared += 1
    assert compared == len(gradients) > 0


def test_the_cut_into_passes_changes_neither_the_estimate_nor_a_gradient(tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path, train=14, examples=judged_answers)
    documents = list(range(14))
    found = []
    for capacity in (2048, 32):
        with loaded(workspace, kto_plan(epochs=1, sequenceLength=capacity)) as parts:
            data, trained, _ = parts
            loss, gradients = step(*parts, documents)
            passes = len(trained.objective.batches(data.train, [[each] for each in documents]))
            found.append((loss, gradients, kto(trained).kl, passes))
    (loss, gradients, kl, one), (other_loss, others, other_kl, several) = found
    assert one == 1 < several
    assert kl == pytest.approx(other_kl, rel=1e-6)
    assert kl > 0.1
    assert loss == pytest.approx(other_loss, abs=1e-6)
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", [LORA, FULL], ids=["lora", "full"])
def test_it_learns_what_is_desirable(method: dict[str, Any], tmp_path: Path) -> None:
    workspace = prepared_workspace(tmp_path, train=32, validation=12, examples=judged_answers)
    _, result = train(kto_plan(method, epochs=4, learningRate="5e-3"), workspace, Stop())
    assert result["baseValidationLoss"] == pytest.approx(expected_start(workspace), abs=1e-5)
    assert result["baseValidationKl"] == pytest.approx(0, abs=1e-4)
    assert result["validationLoss"] < result["baseValidationLoss"] - 0.05
    assert result["validationRewardChosen"] > result["validationRewardRejected"] + 0.1
    assert result["validationRewardMargin"] == pytest.approx(
        result["validationRewardChosen"] - result["validationRewardRejected"]
    )
    assert result["validationKl"] >= 0


def expected_start(workspace: Workspace) -> float:
    """Where policy and base are one, every loss is half its weight."""
    validation = Examples(workspace.data / "validation")
    answers = [each for index in range(len(validation)) for each in answers_of(validation[index])]
    weights = [DESIRABLE if answer.labels[0] else UNDESIRABLE for answer in answers]
    return sum(weights) / len(weights) / 2


def test_pairs_are_learned_as_answers_of_their_own(tmp_path: Path) -> None:
    """A step of pairs has the loss of the step of their answers one by one."""
    pairs = prepared_workspace(tmp_path / "pairs", train=6, validation=0, examples=preference_pairs)
    shutil.copytree(tmp_path / "pairs", tmp_path / "answers")
    apart = Workspace(tmp_path / "answers")
    whole = Examples(pairs.data / "train")
    answers = [each for index in range(len(whole)) for each in answers_of(whole[index])]
    shutil.rmtree(apart.data / "train")
    (apart.data / "train").mkdir()
    single = [
        example_of(each, None) if each.labels[0] else example_of(None, each) for each in answers
    ]
    write_examples(apart.data / "train", [Block.of(single)], labelled=True)
    found = []
    for workspace, count in ((pairs, 6), (apart, 12)):
        with loaded(workspace, kto_plan(epochs=1)) as (data, trained, group):
            objective = kto(trained)
            packs = [[index] for index in range(count)]
            objective.look_ahead(data.train, packs, trained.engine, group, lambda: None)
            # The same point of reference: which answers are mismatched is another question.
            objective.kl = 0.2
            batch = objective.collate(data.train, list(range(count)))
            found.append(float(objective.loss(batch)))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_an_answer_is_put_behind_the_prompt_of_another_example(tmp_path: Path) -> None:
    def answer(*tokens: int, prompt: int) -> Example:
        return Example(np.array(tokens, np.int32), np.arange(len(tokens)) >= prompt)

    examples = [
        example_of(answer(1, 2, 10, 11, prompt=2), answer(1, 2, 12, prompt=2)),
        example_of(answer(1, 2, 13, prompt=2), None),  # the prompt of the one before
        example_of(None, answer(3, 20, 21, 22, prompt=1)),
    ]
    write_examples(tmp_path, [Block.of(examples)], labelled=True)
    found = Examples(tmp_path)
    of_pair = [each.tokens.tolist() for each in mismatched(found, 0, capacity=32)]
    assert of_pair == [[1, 2, 20, 21, 22], [1, 2, 20, 21, 22]]
    assert [each.tokens.tolist() for each in mismatched(found, 1, 32)] == [[1, 2, 20, 21, 22]]
    (last,) = mismatched(found, 2, capacity=32)
    assert last.tokens.tolist() == [3, 10, 11]
    assert last.supervised.tolist() == [False, True, True]
    assert [len(each.tokens) for each in mismatched(found, 0, capacity=3)] == [3, 3]


def test_other_losses_make_no_pass_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook is KTO's alone: DPO looks nowhere ahead."""
    workspace = prepared_workspace(tmp_path, train=4, validation=0, examples=preference_pairs)
    run = plan(LORA, task="Preference", epochs=1, preference={"loss": "DPO", "beta": "0.1"})
    with loaded(workspace, run) as (data, trained, group):
        assert not isinstance(trained.objective, Kto)
        monkeypatch.setattr(trained.engine, "evaluate", None)
        trained.objective.look_ahead(data.train, [[0]], trained.engine, group, lambda: None)


@pytest.mark.parametrize("shared", [True, False], ids=["shared beginnings", "one row"])
def test_looking_ahead_needs_no_larger_pass_than_a_step(
    shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pair of answers and both mismatched ones have up to three times as many tokens."""
    if not shared:
        monkeypatch.setenv(SWITCH, "prefixes")
    capacity = 32
    workspace = prepared_workspace(tmp_path, train=14, examples=preference_pairs)
    with loaded(workspace, kto_plan(epochs=1, sequenceLength=capacity)) as (data, trained, group):
        sizes: list[int] = []
        evaluate = trained.engine.evaluate

        def counted(function: Any, batch: Any) -> Any:
            sizes.append(batch.input_ids.numel())
            return evaluate(function, batch)

        monkeypatch.setattr(trained.engine, "evaluate", counted)
        packs = [[index] for index in range(len(data.train))]
        trained.objective.look_ahead(data.train, packs, trained.engine, group, lambda: None)
    assert max(sizes) <= capacity
