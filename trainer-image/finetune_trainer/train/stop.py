"""SIGTERM: when it ends the stage at once and when it waits for the next step.

It belongs here that a stop was asked for; what is saved before stopping belongs to the recipe.
"""

from __future__ import annotations

import signal
from types import FrameType

from finetune_trainer.outcome import PreemptedError


class Stop:
    """A request to stop. Until `defer` there is nothing to save, so the signal itself ends the
    stage.
    """

    def __init__(self) -> None:
        self.requested = False
        self._deferred = False

    def install(self) -> Stop:
        """Listen for SIGTERM; also needed because process 1 of a container ignores it otherwise."""
        signal.signal(signal.SIGTERM, self._received)
        return self

    def defer(self) -> None:
        """From now on only note the request: the training loop looks at `requested`."""
        self._deferred = True
        if self.requested:
            raise PreemptedError("Stopped before the first step.")

    def _received(self, signum: int, frame: FrameType | None) -> None:
        first, self.requested = not self.requested, True
        if first and not self._deferred:
            raise PreemptedError("Stopped before the first step.")
