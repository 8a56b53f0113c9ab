"""What the tests will want in a while, made before, in the order in which they do.

On a machine where nothing is cached, building takes longer than all else, and much of that else is
waiting: for downloads, for one CPU of two. `make test` runs both beside it, at the lowest priority,
and beside each other: compiling wants a CPU, and an image the disk and the network.
Whoever wants something that is not ready waits for it, and what fails here fails again there, with
its message. No cluster is started for it.
"""

from __future__ import annotations

import os

from cluster import binaries, images, packages, preflight, provider, tools

BINARIES = (*tools.NAMES, tools.GITOPS, *binaries.CONTROL_PLANE, *binaries.NODE)


def build_binaries() -> None:
    """Compile what is not there. ClusterError if something cannot be built."""
    for name in BINARIES:
        # One at a time, so that others get their turn.
        binaries.ensure([name])


def build_images() -> None:
    """Build the images that are not there, if the tests will be run on the cluster of this machine.
    ClusterError if something cannot be built.
    """
    if _images_are_ours():
        packages.ensure()
        for name in images.RECIPES:
            images.build(name)


def _images_are_ours() -> bool:
    """Whether the tests will run on the cluster of this machine, as far as that is known now."""
    chosen = os.environ.get(provider.CHOICE, "local") == "local"
    other = os.environ.get("KUBECONFIG", "")
    return chosen and not other and not preflight.failed(preflight.BEFORE_INSTALLING)
