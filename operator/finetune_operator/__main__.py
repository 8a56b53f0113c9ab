"""`python -m finetune_operator`: read the configuration, run, say in one sentence what fails."""

from __future__ import annotations

import asyncio
import sys

import uvloop

from finetune_operator import config
from finetune_operator.kube.auth import AuthError
from finetune_operator.runtime.serving import CertificateError
from finetune_operator.shell import logs
from finetune_operator.shell.run import StartError, run
from finetune_operator.shell.watches import WatchDied


def main() -> None:
    """The entry point of the image."""
    try:
        settings = config.read(sys.argv[1:])
        logs.configure(settings.log_format)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings))
    except (config.ConfigError, AuthError, CertificateError, StartError, WatchDied) as error:
        sys.exit(f"finetune-operator: {error}")


if __name__ == "__main__":
    main()
