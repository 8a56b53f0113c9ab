"""What log lines look like: one readable line, or one JSON object a line with the run that it is
about. Messages hold what others have written, so they are one line that no terminal obeys.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from finetune_operator.core.text import one_line
from finetune_operator.runtime import subject


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": one_line(record.getMessage()),
        }
        if (run := subject.run.get()) is not None:
            entry |= {"namespace": run.namespace, "finetunejob": run.name}
            entry |= {"uid": run.uid} if run.uid else {}
        if record.exc_info:
            entry["exception"] = _plain(self.formatException(record.exc_info))
        return json.dumps(entry, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """One line for people; a traceback below it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = one_line(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return _plain(super().formatException(ei))


def _plain(traceback: str) -> str:
    lines = traceback.splitlines()
    return "\n".join(" " * (len(it) - len(it.lstrip(" "))) + one_line(it) for it in lines)


def configure(log_format: str) -> None:
    """Send the operator's lines to standard error; of kopf only what is wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("kopf").setLevel(logging.WARNING)
    for noisy in ("asyncio", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
