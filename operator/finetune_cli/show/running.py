"""A run of this machine while it runs: the view of `status` on a terminal, else a line for each
change.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.live import Live

from finetune_cli.history import History
from finetune_cli.local.place import Place
from finetune_cli.local.wording import shown
from finetune_cli.show.line import line
from finetune_cli.show.screen import console
from finetune_cli.show.status import StatusView
from finetune_cli.view import Run
from finetune_operator.vocabulary import Phase, Stage

Json = dict[str, Any]


class Watched:
    """Takes the resource whenever it has changed. Says nothing by itself."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._read: dict[Path, int] = {}
        self.history = History()
        self.run = Run({})

    def __call__(self, document: Json) -> None:
        self.run = Run(shown(document, self._place.root, self._place.log))
        for stage in document["status"].get("stages", []):
            if stage["name"] == Stage.TRAIN:
                for attempt in range(1, stage["attempt"] + 1):
                    self._read_on(f"{document['metadata']['name']}-{Stage.TRAIN}-{attempt}")

    def _read_on(self, job: str) -> None:
        """The whole lines that its log has got since."""
        path = self._place.log(job)
        try:
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                text = file.read()
        except OSError:
            return
        whole, newline, _ = text.rpartition(b"\n")
        self._read[path] = self._read.get(path, 0) + len(whole) + len(newline)
        self.history.read(whole.decode(errors="replace").splitlines())


class _Printed(Watched):
    said = ""

    def __call__(self, document: Json) -> None:
        super().__call__(document)
        if document["status"].get("phase") in (Phase.SUSPENDED, Phase.FAILED):
            return  # why it has stopped is told at the end
        if (text := line(self.run)) != self.said:
            self.said = text
            print(text, flush=True)


@contextmanager
def watching(place: Place, *, quiet: bool) -> Iterator[Watched]:
    """What shows the run until the context ends; nothing if `quiet`."""
    screen = console()
    if quiet or not screen.is_terminal:
        yield Watched(place) if quiet else _Printed(place)
        return
    watched = Watched(place)

    def drawn() -> StatusView:
        now, height = datetime.now(UTC), screen.size.height
        return StatusView(watched.run, watched.history, now, height=height)

    with Live(console=screen, get_renderable=drawn, refresh_per_second=2, vertical_overflow="crop"):
        yield watched
