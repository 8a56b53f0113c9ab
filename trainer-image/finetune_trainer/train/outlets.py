"""Where a run's values go besides its log and history: which outlets there are, opened together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from finetune_trainer.run import Run
from finetune_trainer.train.exposition import Exposition
from finetune_trainer.train.journal import Journal
from finetune_trainer.train.progress import Endpoint, Reporter
from finetune_trainer.train.trackers import open_trackers
from finetune_trainer.workspace import Workspace


@contextmanager
def open_journal(run: Run, workspace: Workspace, *, active: bool) -> Iterator[Journal]:
    """The journal with the outlets that environment and plan name, until the run ends."""
    if not active:
        yield Journal(workspace.history, (), active=False)
        return
    with (
        Reporter(Endpoint.from_environment()) as reporter,
        Exposition.from_environment() as served,
        open_trackers(run, workspace) as trackers,
    ):

        def saved(step: int) -> None:
            served.saved()
            reporter.saved(step)

        yield Journal(
            workspace.history,
            (reporter, served, *trackers),
            active=True,
            saved=saved,
            requested=reporter.requested,
        )
