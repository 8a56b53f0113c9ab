"""How to load what a run has made, as Python: from the Hub, or from directories."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from finetune_trainer.publish.method import own_code
from finetune_trainer.publish.task import class_name, labelled_use
from finetune_trainer.run import Run


@dataclass(frozen=True, slots=True)
class Place:
    """Where the model is.

    `name` is a repository at `revision`, or a directory. `adapter_folder` is where in it the
    adapter lies: "" for its root, None for nowhere; a whole model is there if `has_model`.
    `tokenizer` is where that is, if elsewhere.
    """

    name: str
    revision: str
    has_model: bool
    adapter_folder: str | None
    tokenizer: str | None = None


class Snippet(NamedTuple):
    """Python that loads the model, or only the adapter in `folder` if that is another one."""

    python: str
    folder: str | None = None


def snippets(place: Place, run: Run, labels: Sequence[object], *, chats: bool) -> list[Snippet]:
    """One for what is there, and another one for an adapter beside a whole model.

    Args:
        labels: names, of a task that has them.
        chats: whether the tokenizer has a chat template.
    """
    parts = []
    whole, with_adapter = class_name(run.task, adapter=False), class_name(run.task, adapter=True)
    name, revision = json.dumps(place.name), json.dumps(place.revision)
    at = "" if place.revision == "main" else f", revision={revision}"
    tokenizer = f"{name}{at}" if place.tokenizer is None else json.dumps(place.tokenizer)
    if place.has_model:
        loading = (
            f"from transformers import {whole}, AutoTokenizer\n\n"
            f"tokenizer = AutoTokenizer.from_pretrained({tokenizer})\n"
            f'model = {whole}.from_pretrained({name}{at}, dtype="auto")\n\n'
        )
        parts.append(Snippet(loading + _generation(run, chats=chats)))
    if place.adapter_folder is not None:
        own = own_code(run.method, f"{name}{at}")
        folder = place.adapter_folder
        inside = f", subfolder={json.dumps(folder)}" if folder else ""
        loading = (
            f"from peft import {with_adapter}\n"
            + ("" if place.has_model else "from transformers import AutoTokenizer\n")
            + own.imported
            + "\n"
            + (
                ""
                if place.has_model
                else f"tokenizer = AutoTokenizer.from_pretrained({tokenizer})\n"
            )
            + own.loaded
            + f"model = {with_adapter}.from_pretrained({name}{at}{inside}{_labels(labels)})\n"
        )
        tail = "" if place.has_model else "\n" + _generation(run, chats=chats)
        parts.append(Snippet(loading + tail, folder if place.has_model else None))
    return parts


def _labels(names: Sequence[object]) -> str:
    """What a base model has to be told of the labels before an adapter is put on it."""
    return f", id2label={dict(enumerate(map(str, names)))!r}" if names else ""


def _generation(run: Run, *, chats: bool) -> str:
    if run.task.has_labels:
        return labelled_use(run.task)
    if not chats:
        return (
            'inputs = tokenizer("Once upon a time", return_tensors="pt")\n'
            "output = model.generate(**inputs, max_new_tokens=128)\n"
            "print(tokenizer.decode(output[0], skip_special_tokens=True))"
        )
    return (
        'messages = [{"role": "user", "content": "Your question"}]\n'
        "inputs = tokenizer.apply_chat_template(\n"
        '    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"\n'
        ")\n"
        "output = model.generate(**inputs, max_new_tokens=256)\n"
        'answer = output[0, inputs["input_ids"].shape[1] :]\n'
        "print(tokenizer.decode(answer, skip_special_tokens=True))"
    )
