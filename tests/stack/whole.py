"""Hub and operator together, as the end-to-end tests share them; the first to ask installs them."""

from __future__ import annotations

from cluster import locks, paths
from cluster.handle import Cluster
from stack import hub, operator


def install(cluster: Cluster) -> None:
    """Have both on the cluster, and the tiny model and its data on the Hub."""
    with locks.exclusive(paths.state().parent / "stack.lock", "installing Hub and operator"):
        hub.install(cluster)
        with hub.reachable(cluster) as api:
            hub.seed_tiny(api)
        operator.install(cluster, hub_endpoint=hub.ENDPOINT)
