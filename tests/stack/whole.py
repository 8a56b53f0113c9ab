"""Hub and operator together, as the end-to-end tests share them; the first to ask installs them."""

from __future__ import annotations

from cluster import locks, paths
from cluster.handle import Cluster
from stack import hub, operator

_LOCK = paths.state().parent / "stack.lock"
# Whoever works with the operator shares it; whoever takes it away has it alone.
OPERATOR_LOCK = paths.state().parent / "operator.lock"


def install(cluster: Cluster) -> None:
    """Have both on the cluster, and the tiny model and its data on the Hub."""
    undisturbed = locks.shared(OPERATOR_LOCK, "a test without operator")
    with undisturbed, locks.exclusive(_LOCK, "installing Hub and operator"):
        hub.install(cluster)
        with hub.reachable(cluster) as api:
            hub.seed_tiny(api)
        operator.install(cluster, hub_endpoint=hub.ENDPOINT)
