"""`python -m stack`: a cluster with the Hub and the operator, as the end-to-end tests want it.

They put there what is missing themselves, but not with a word about what takes minutes: they run
several at a time.
"""

from __future__ import annotations

import os
import sys

from cluster import progress, provider
from cluster.errors import ClusterError
from cluster.handle import KubectlError
from stack import whole


def main() -> int:
    try:
        cluster = provider.choose(os.environ).provide()
        with progress.step("Hub and operator"):
            whole.install(cluster)
    except (ClusterError, KubectlError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
