"""What helps on this machine, in the place of what a sentence of operator or trainer advises for a
cluster: there is no claim to enlarge, no node to choose, no Secret to correct.

Sentences are the stages' and the core's own; only their advice, and the words for where they ran,
are changed here. What is no advice, such as a Job's name, is wording.py's.
"""

from __future__ import annotations

import re

AGAIN = "run the same command again"
_TOKEN = "HF_TOKEN, or into the file of --secret"

# A pattern of a cluster's words, and what is true here. One after the other, on the whole sentence.
_HERE = [
    # Memory.
    ("was killed for using more memory than its limit", "ran out of memory"),
    ("was killed because memory ran out", "ran out of memory"),
    (
        r"raise spec\.resources\.memory, (?:or )?(lower \S+), or (set \S+?)(?=\.?(?:\s|$))",
        r"\1, \2, or free memory on this machine",
    ),
    (
        r"let spec\.scheduling choose a node with more memory, or raise (?:the namespace's limit"
        r"|the limit that the namespace sets)",
        "free memory on this machine, or use one with more",
    ),
    (r"too small: raise spec\.resources\.sharedMemory", "full"),
    # Space and files.
    (
        r"The workspace volume is full: set spec\.storage\.size to a larger size",
        "The disk of the workspace is full: free space on it, or name a directory on another disk "
        "with --workspace",
    ),
    (
        r"set spec\.storage\.storageClassName to a class whose file system does",
        "name a directory on another file system with --workspace",
    ),
    (
        r"name a claim in spec\.storage\.claimName that user (\S+) may write, or leave claimName "
        "out",
        r"let user \1 write there, or name another --workspace",
    ),
    (
        r"because another run has used it: name a claim in spec\.storage\.claimName that no other "
        r"run has, and set spec\.rerunToken to another value",
        "because another run has used it: name another --workspace",
    ),
    (r"The claim in spec\.storage\.claimName holds", "The workspace holds"),
    (
        r"use an empty claim, or move (\S+) elsewhere",
        r"move \1 elsewhere, or name another --workspace",
    ),
    (r"set spec\.rerunToken to another value, so that", "say --start-over, so that"),
    (r"set spec\.rerunToken to a new value to start again", "say --start-over to start again"),
    # Accelerators and processes.
    (
        r"The pod has (\S+) accelerator\(s\) for (\S+) processes: check the device plugin of its "
        "node",
        r"This machine has \1 accelerator(s) for \2 processes: say --gpus \1",
    ),
    (
        r"The pod has accelerators that CUDA cannot use: check that the driver of its node is new "
        r"enough for CUDA (\S+), and its device plugin",
        r"This machine has accelerators that CUDA cannot use: check that its driver is new enough "
        r"for CUDA \1, or say --gpus 0",
    ),
    (
        r"this pod sees no accelerator: check spec\.scheduling\.runtimeClassName and the device "
        r"plugin of its node",
        "none can be used here: check the driver and CUDA_VISIBLE_DEVICES, or say --gpus 0",
    ),
    (
        r"look why its pod does not run, or lower spec\.resources\.nodes",
        "look into the log, or lower --gpus",
    ),
    (r"spec\.resources\.nodes times spec\.resources\.gpusPerNode", "--gpus"),
    # Tokens.
    (r"The Secret in (spec\.\S+) does not hold a token in that key", r"The token for \1 is none"),
    (
        "Set name and key to a Secret's key that holds the token and nothing else",
        f"Put the token and nothing else into {_TOKEN}",
    ),
    (
        r"set spec\.upload\.tokenSecretRef to a Secret with a write token",
        f"put a write token into {_TOKEN}",
    ),
    ("correct the Secret", f"put a valid one into {_TOKEN}"),
    (r"then set spec\.rerunToken to a new value to go on from upload", f"then {AGAIN}"),
    # The trainer.
    (
        r"The trainer image cannot read its plan (.+): set spec\.trainer\.image to an image made "
        "for this version of the operator",
        r"The trainer cannot read its plan \1: install the trainer of this version, or name a "
        "Python that has it with --python",
    ),
    (r"set spec\.trainer\.image to an image that has it", "install it for the trainer's Python"),
    ("the trainer image", "the trainer's Python"),
]
_PATTERNS = [(re.compile(there), here) for there, here in _HERE]


def here(sentence: str) -> str:
    """The sentence with what helps on this machine."""
    for there, instead in _PATTERNS:
        sentence = there.sub(instead, sentence)
    return sentence
