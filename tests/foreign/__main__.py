"""`python3 -m foreign VERB`: check the promises, do the stage's work, end as the script says.

The script is for tests, and travels where the contract passes text through unread: as the model's
chat template. It lists by verb how the first attempts end; later ones end well:
`{"train": [{"exit": 11}, {"exit": 0, "words": "no JSON"}]}`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from types import FrameType
from typing import Any

from foreign import ending, promises, work
from foreign.ending import Ended


def main() -> int:
    """The whole life of one container; its exit code."""
    # The first process of a container gets no signal that it has no handler for.
    signal.signal(signal.SIGTERM, _preempted)
    stage = sys.argv[-1]
    try:
        code, words = 0, _perform(stage)
    except Ended as ended:
        code = ended.code
        words = ended.words or ending.document(stage, code, str(ended), {})
    print(words)
    ending.say(stage, words)
    return code


def _perform(stage: str) -> str:
    broken = promises.broken(sys.argv[1:])
    if broken:
        raise Ended(10, f"The contract's promises are broken: {'; '.join(broken)}.")
    run = json.loads(promises.RUN.read_bytes())
    asked = _asked(run, stage)
    code, words = asked.get("exit", 0), asked.get("words")
    if code != 0:
        raise Ended(code, f"{stage} ends with {code}, as it was asked to.", words)
    message, result = work.STAGES[stage](run)
    return words or ending.document(stage, 0, message, result)


def _asked(run: dict[str, Any], stage: str) -> dict[str, Any]:
    endings = json.loads(run["model"].get("chatTemplate", "{}")).get(stage, [])
    attempt = int(os.environ["FINETUNE_ATTEMPT"])
    return dict(endings[attempt - 1]) if attempt <= len(endings) else {}


def _preempted(signal: int, frame: FrameType | None) -> None:
    del signal, frame
    raise Ended(13, "The work so far is lost: there was none.")


if __name__ == "__main__":
    sys.exit(main())
