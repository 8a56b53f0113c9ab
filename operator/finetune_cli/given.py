"""The one FineTuneJob of a file, valid: what commands start from that are about a file.

What is valid is decided in validation.py, what a file is in files.py.
"""

from __future__ import annotations

from typing import Any

from finetune_cli.errors import CliError
from finetune_cli.files import Document, documents
from finetune_cli.validation import is_ours, problems

Json = dict[str, Any]


def finetunejobs(path: str) -> list[Document]:
    """The documents of a file, without those that are clearly something else: the Secret or the
    ConfigMap beside a run is for the API server to judge.

    Raises:
        CliError: it cannot be read, or has nothing else.
    """
    return _ours(path, documents(path))


def finetunejob(path: str) -> Json:
    """The FineTuneJob of a file.

    Raises:
        CliError: it cannot be read, has none or several, or is not valid.
    """
    return with_the_rest(path)[0]


def with_the_rest(path: str) -> tuple[Json, list[Json]]:
    """The FineTuneJob of a file, and the other documents beside it.

    Raises:
        CliError: as for `finetunejob`.
    """
    everything = documents(path)
    found = _ours(path, everything)
    if len(found) > 1:
        raise CliError(
            f"{path} has {len(found)} FineTuneJobs, and this is about one: put it in a file alone."
        )
    document: Json = found[0].content
    if wrong := problems(document):
        more = f" (and {len(wrong) - 1} more: `kubectl finetune validate`)" if wrong[1:] else ""
        raise CliError(f"{path}: {wrong[0]}{more}")
    return document, [item.content for item in everything if item is not found[0]]


def _ours(path: str, found: list[Document]) -> list[Document]:
    ours = [document for document in found if is_ours(document.content)]
    if not ours:
        kinds = ", ".join(dict.fromkeys(str(document.content["kind"]) for document in found))
        raise CliError(f"{path} has no FineTuneJob, only {kinds}: name the file that has it.")
    return ours
