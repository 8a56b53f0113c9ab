"""A stage's log has the stage's own words."""

from __future__ import annotations

import subprocess
import sys

LIBRARIES = """
import logging, warnings
from finetune_trainer.quiet import hush_libraries

hush_libraries()
import bitsandbytes

logging.getLogger("bitsandbytes.backends.cpu.ops").warning("pip install kernels")
warnings.warn("this argument will go", FutureWarning)
warnings.warn("what a user can act on", UserWarning)
"""


def test_what_is_for_developers_is_kept_out_and_the_rest_is_not() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LIBRARIES], capture_output=True, text=True, check=True
    )
    assert "UserWarning: what a user can act on" in ended.stderr
    assert "pip install kernels" not in ended.stderr
    assert "this argument will go" not in ended.stderr
