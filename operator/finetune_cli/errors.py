"""How a command ends without success: one sentence with the next step, and an exit code.

The codes are part of the command line's interface (docs/cli.md).
"""

from __future__ import annotations


class Exit:
    """Exit codes."""

    OK = 0
    BAD = 1  # the run has failed, or the file is not valid
    USAGE = 2
    NOT_FOUND = 3
    NO_CLUSTER = 4
    DENIED = 5
    TIMEOUT = 6
    REFUSED = 7
    INTERNAL = 70
    INTERRUPTED = 130


class CliError(Exception):
    """The command cannot do what was asked; the message says why and what to do."""

    def __init__(self, message: str, code: int = Exit.BAD) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
