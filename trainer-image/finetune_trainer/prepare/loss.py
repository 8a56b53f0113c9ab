"""A user's own loss, `spec.training.loss`: found before an accelerator is asked for, and kept.

The files of its ConfigMap are read here and never run: this stage holds tokens and has a network,
and who may write a ConfigMap need not be who may read them. What the image has is imported. All
attempts of a run have the files as they are now, as they have its data.
"""

from __future__ import annotations

import ast
import importlib
import os
import shutil
import symtable
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from finetune_trainer.outcome import UserError
from finetune_trainer.run import CustomLoss
from finetune_trainer.workspace import Workspace, atomic_directory

_MOUNTED = "/etc/finetune/loss"
_FIELD = "spec.training.loss"


def directory(workspace: Workspace) -> Path:
    """Where the files of the ConfigMap are: those that were kept, else those that are mounted."""
    kept = _kept(workspace)
    return kept if kept.is_dir() else _mounted()


def keep(workspace: Workspace) -> None:
    """Copy the mounted files into the workspace, if there are any."""
    if not _mounted().is_dir():
        return
    with atomic_directory(_kept(workspace)) as new:
        for file in _mounted().iterdir():
            if file.is_file():
                shutil.copyfile(file, new / file.name)


def require_loss(settings: CustomLoss, files: Path) -> None:
    """The image, or else the directory `files`, has the module, and this the function.

    Raises:
        UserError: they have not, or the module imports what is not there.
    """
    # As in `train`: what the image has cannot be replaced.
    if find_spec(settings.module.partition(".")[0]) is not None:
        _require_in_image(settings)
    else:
        _require_in_file(settings, files)


def _mounted() -> Path:
    return Path(os.environ.get("FINETUNE_LOSS_DIRECTORY", _MOUNTED))


def _kept(workspace: Workspace) -> Path:
    return workspace.prepare / "loss"


def _require_in_image(settings: CustomLoss) -> None:
    try:
        module = importlib.import_module(settings.module)
    except Exception as error:
        raise UserError(
            f'{_FIELD}.module names "{settings.module}", which the trainer image has but cannot '
            f"import ({type(error).__name__}: {error}): name another."
        ) from error
    if not callable(getattr(module, settings.function, None)):
        raise UserError(
            f'{_FIELD}.function names "{settings.function}", and module {settings.module} of the '
            "trainer image has no such function: name another, or give a module in configMapRef "
            "another name."
        )


def _require_in_file(settings: CustomLoss, files: Path) -> None:
    modules = sorted(file.stem for file in files.glob("*.py"))
    if settings.module not in modules:
        has = f"has: {', '.join(modules) or 'none'}" if settings.config_map_ref else "is not set"
        raise UserError(
            f'{_FIELD}.module names "{settings.module}", which the trainer image does not have; '
            f"configMapRef {has}."
        )
    code = (files / f"{settings.module}.py").read_bytes()
    where = f'{_FIELD}.module names "{settings.module}", and {settings.module}.py'
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError) as error:
        line = f" in line {error.lineno}" if isinstance(error, SyntaxError) else ""
        words = error.msg if isinstance(error, SyntaxError) else error
        raise UserError(f"{where} in configMapRef is no Python{line} ({words}).") from error
    if missing := [name for name in _imports(tree) if not (name in modules or find_spec(name))]:
        raise UserError(
            f'{where} imports "{missing[0]}", which neither configMapRef nor the trainer image '
            "has: add it there, or set spec.trainer.image to an image that has it."
        )
    names = _names(tree, code.decode())
    if names is not None and settings.function not in names:
        raise UserError(
            f'{_FIELD}.function names "{settings.function}", which {settings.module}.py in '
            f"configMapRef does not have; it has: {', '.join(sorted(names)) or 'nothing'}."
        )


def _imports(tree: ast.Module) -> Iterator[str]:
    """The first parts of what a module imports in any case: not of what it may do without."""
    for statement in tree.body:
        if isinstance(statement, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            yield statement.module.partition(".")[0]


def _names(tree: ast.Module, code: str) -> set[str] | None:
    """What a module binds; None if that cannot be told without running it."""
    stars = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    if any(alias.name == "*" for node in stars for alias in node.names):
        return None
    symbols = symtable.symtable(code, "loss", "exec").get_symbols()
    return {each.get_name() for each in symbols if each.is_assigned() or each.is_imported()}
