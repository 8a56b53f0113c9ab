"""What the model answers, for people to read: greedy generations for validation prompts.

Of each document the prompt is what comes before its first supervised token. No keys and values are
cached, since a model in training knows its own kinds of attention: samples are few and short.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor
from transformers import AutoTokenizer

from finetune_trainer.data.examples import Example, Examples
from finetune_trainer.train.batches import Batch, collate
from finetune_trainer.train.setup import Context, Trained
from finetune_trainer.train.speed import attention
from finetune_trainer.train.speed.head import model_inputs
from finetune_trainer.workspace import json_lines, write_text

FILE = "samples.jsonl"  # in the workspace's logs
LONGEST = 64


def write_samples(
    trained: Trained, examples: Examples, context: Context, step: int, between: Callable[[], None]
) -> None:
    """Answer as many of the first prompts as the plan wants after `step` steps; to the log and to
    the workspace's file.

    All ranks generate the same, because each may hold only a part of the model; they call `between`
    together before every token, and it may raise to leave it at that.
    """
    trained.model.eval()
    answers = []
    for index in range(min(context.run.training.samples_at_evaluation, len(examples))):
        prompt, reference = _divided(examples[index])
        answers.append((prompt, generate(trained, context, prompt, between), reference))
    if not answers or not context.group.is_main:
        return
    tokenizer = AutoTokenizer.from_pretrained(context.workspace.model, local_files_only=True)
    path = context.workspace.logs / FILE
    path.parent.mkdir(exist_ok=True)
    lines = _before(path, step)
    for answer in answers:
        prompt, sample, reference = (tokenizer.decode(tokens) for tokens in answer)
        told = {"step": step, "prompt": prompt, "sample": sample, "reference": reference}
        lines.append(json.dumps(told, ensure_ascii=False))
        context.journal.say(f"sample after step {step}: {sample!r}")
    write_text(path, "".join(f"{line}\n" for line in lines))


def generate(
    trained: Trained, context: Context, prompt: list[int], between: Callable[[], None]
) -> list[int]:
    """The likeliest tokens after `prompt`, one by one, up to a stop token or `LONGEST`; the stop
    token is one of them.
    """
    config = trained.model.generation_config
    ends = config.eos_token_id if config is not None else None
    stops = set(ends) if isinstance(ends, list) else {ends}
    tokens = list(prompt)
    while len(tokens) < len(prompt) + LONGEST:
        context.group.heart.beat("writing samples")
        between()
        batch = _batch(trained, context, tokens)
        tokens.append(int(trained.engine.evaluate(_next, trained, batch)))
        if tokens[-1] in stops:
            break
    return tokens[len(prompt) :]


def _next(trained: Trained, batch: Batch) -> Tensor:
    logits: Tensor = trained.model(**model_inputs(batch)).logits
    return logits[0, -1].argmax()


def _batch(trained: Trained, context: Context, tokens: list[int]) -> Batch:
    document = Example(
        tokens=np.asarray(tokens, dtype=np.int32), supervised=np.zeros(len(tokens), dtype=np.bool_)
    )
    shared = trained.model.config._attn_implementation == attention.NAME
    return collate([document], padded=not shared, device=context.device)


def _divided(example: Example) -> tuple[list[int], list[int]]:
    """Prompt and the data's own answer; a document that is supervised from the start keeps one
    token as its prompt.
    """
    first = max(1, int(np.argmax(example.supervised)))
    return example.tokens[:first].tolist(), example.tokens[first:].tolist()


def _before(path: Path, step: int) -> list[str]:
    """The lines of earlier steps: a resumed run makes the others again."""
    if not path.exists():
        return []
    found = [(json.loads(line)["step"], line) for line in json_lines(path)]
    return [line for known, line in found if known < step]
