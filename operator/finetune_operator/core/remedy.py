"""How a failed run goes on, said at the end of the sentence that says why it failed.

Nobody who reads `kubectl describe` should have to look that up. What failed is said elsewhere.
"""

from __future__ import annotations

from finetune_operator.core.text import sentence

TOKEN = "spec.rerunToken"
CORRECT = f" Correct it and change {TOKEN} together to go on."
USED_UP = f" No further attempt is made before {TOKEN} changes."


def with_remedy(message: str, *, retried: bool = False) -> str:
    """The message, one line, with how to go on unless it says so itself.

    `retried`: it was tried again as often as is sensible, so there may be nothing to correct.
    """
    if TOKEN in message:
        return sentence(message)
    message = message.rstrip()
    stop = "" if message.endswith((".", "!", "?", "…")) else "."
    return sentence(message, stop + (USED_UP if retried else CORRECT))
