"""What libraries tell their developers, kept out of a stage's log, where it would bury the stage's
own words. What a user can act on stays.
"""

from __future__ import annotations

import logging
import warnings

# It advises to install a package that would fetch machine code from a hub at import.
_BITSANDBYTES_ON_CPUS = "bitsandbytes.backends.cpu.ops"


def hush_libraries() -> None:
    """For this process; every process of a stage that imports torch calls it first."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger(_BITSANDBYTES_ON_CPUS).setLevel(logging.ERROR)
