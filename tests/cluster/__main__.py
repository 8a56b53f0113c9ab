"""`python -m cluster`: the verbs, each a few calls into the module that does the work."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time

from cluster import ahead, binaries, images, local, paths, progress, tools
from cluster.errors import ClusterError


def _up(_: argparse.Namespace) -> int:
    start = time.monotonic()
    local.up()
    progress.say(f"The cluster is up ({progress.elapsed(time.monotonic() - start)}). To use it:")
    print(f"export KUBECONFIG={paths.kubeconfig()}")
    return 0


def _down(_: argparse.Namespace) -> int:
    local.down()
    return 0


def _status(_: argparse.Namespace) -> int:
    healthy, lines = local.status()
    print("\n".join(lines))
    if healthy:
        print(f"The cluster is up. To use it:\nexport KUBECONFIG={paths.kubeconfig()}")
    else:
        print("Not all of it runs: `make cluster` brings it up.")
    return 0 if healthy else 1


def _kubeconfig(_: argparse.Namespace) -> int:
    if not paths.kubeconfig().exists():
        raise ClusterError("No cluster is up: run `make cluster`.")
    print(paths.kubeconfig())
    return 0


def _build(arguments: argparse.Namespace) -> int:
    binaries.ensure(_BUILT[arguments.what])
    return 0


_BUILT = {
    "cluster": binaries.CONTROL_PLANE + binaries.NODE,
    "control-plane": binaries.CONTROL_PLANE,
    "tools": tools.NAMES,
}


def _ahead(arguments: argparse.Namespace) -> int:
    # To end with what it started, `go build` above all.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _AHEAD[arguments.what]()
    return 0


_AHEAD = {"binaries": ahead.build_binaries, "images": ahead.build_images}


def _image(arguments: argparse.Namespace) -> int:
    local.up()
    for name in arguments.names:
        print(images.reference(name))
    return 0


def _kubectl(arguments: argparse.Namespace) -> int:
    command = [str(binaries.ensure(["kubectl"])["kubectl"])]
    command += ["--kubeconfig", str(paths.kubeconfig()), *arguments.rest]
    return subprocess.run(command).returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m cluster", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for name, action, text in (
        ("up", _up, "bring the whole cluster up, or repair it"),
        ("down", _down, "take it away without a trace; what is cached stays"),
        ("status", _status, "say what runs; fails unless everything does"),
        ("kubeconfig", _kubeconfig, "print the path of the kubeconfig"),
    ):
        verbs.add_parser(name, help=text).set_defaults(action=action)
    early = verbs.add_parser("ahead", help="build what the tests will want; start nothing")
    early.add_argument("what", choices=sorted(_AHEAD), metavar="WHAT", help="binaries or images")
    early.set_defaults(action=_ahead)
    build = verbs.add_parser("build", help="build the binaries, so that the first `up` is quick")
    build.add_argument(
        "what",
        nargs="?",
        choices=sorted(_BUILT),
        default="cluster",
        metavar="WHAT",
        help="cluster (default), control-plane, or tools: helm and kubectl",
    )
    build.set_defaults(action=_build)
    image = verbs.add_parser("image", help="build and push images; print their references")
    image.add_argument("names", nargs="+", metavar="NAME", choices=sorted(images.RECIPES))
    image.set_defaults(action=_image)
    kubectl = verbs.add_parser("kubectl", help="run kubectl against it", add_help=False)
    kubectl.set_defaults(action=_kubectl)
    arguments, rest = parser.parse_known_args()
    if rest and arguments.action is not _kubectl:
        parser.error(f"unknown: {' '.join(rest)}")
    arguments.rest = rest
    try:
        return int(arguments.action(arguments))
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted: run the same command again to go on.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
