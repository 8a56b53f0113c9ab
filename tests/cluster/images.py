"""The project's images: built once per content, pushed to our registry, pulled to the node.

`localhost:5000/finetune-trainer:<content key>` names exactly one content, so an unchanged tree
neither builds nor pushes, in whichever clone. For kind the same Dockerfiles go through `docker
build` and `kind load`, which runs only where there is a Docker engine. How podman is driven is in
`podman.py`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cluster import binaries, content, locks, node, paths, podman, progress, registry
from cluster.errors import ClusterError

KEPT_VERSIONS = 3
# A new lock file makes a new layer of gigabytes, kept in three places.
ROOM_GIB = 30


@dataclass(frozen=True)
class Recipe:
    """Where an image's Dockerfile and context are; on which other image of ours it builds.

    `room_gib` is what the disk needs to have free while it is built: layers are copied around.
    """

    context: Path
    base: str | None = None
    room_gib: int = 2

    @property
    def dockerfile(self) -> Path:
        return self.context / "Dockerfile"


RECIPES = {
    "operator": Recipe(paths.REPOSITORY),
    "trainer": Recipe(paths.REPOSITORY / "trainer-image", room_gib=20),
    "hub": Recipe(paths.REPOSITORY / "tests" / "hub", base="operator"),
    "foreign": Recipe(paths.REPOSITORY / "tests" / "foreign"),
}


@dataclass(frozen=True)
class _Wanted:
    """One content of an image, which its key names, and what it is built from."""

    name: str
    dockerfile: Path
    context: Path
    arguments: Mapping[str, str]

    @cached_property
    def files(self) -> list[str]:
        return content.context_files(self.context)

    @cached_property
    def key(self) -> str:
        return content.key(self.context, self.files, self.dockerfile, self.arguments)

    @property
    def repository(self) -> str:
        return f"finetune-{self.name}"

    @property
    def full(self) -> str:
        return f"{registry.address()}/{self.repository}:{self.key}"

    def alone(self) -> AbstractContextManager[None]:
        """While nobody else builds this image."""
        return locks.exclusive(paths.images() / f"{self.name}.lock", f"building image {self.name}")


def reference(name: str) -> str:
    """The image of this tree on the cluster of this machine, which must be up."""
    recipe = RECIPES[name]
    require_dockerfile(recipe)
    base = reference(recipe.base) if recipe.base else podman.base_image()
    return build_image(
        name, recipe.dockerfile, recipe.context, {"BASE_IMAGE": base}, recipe.room_gib
    )


def build(name: str) -> str:
    """The image of this tree, built if need be and kept here; `reference` pushes and pulls it."""
    recipe = RECIPES[name]
    require_dockerfile(recipe)
    base = build(recipe.base) if recipe.base else podman.base_image()
    wanted = _Wanted(name, recipe.dockerfile, recipe.context, {"BASE_IMAGE": base})
    with wanted.alone():
        if not (paths.images() / name / wanted.key).exists():
            _build(wanted, recipe.room_gib)
    return wanted.full


def build_image(
    name: str,
    dockerfile: Path,
    context: Path,
    build_arguments: Mapping[str, str],
    room_gib: int = 0,
) -> str:
    """Build, push and pull what is not there yet; the reference for pods to use."""
    wanted = _Wanted(name, dockerfile, context, build_arguments)
    with wanted.alone():
        if registry.digest(wanted.repository, wanted.key) is None:
            _build(wanted, room_gib)
            _push(wanted.full)
        _pull(wanted.full)
        _remember(name, wanted.key)
        _prune(name, keep=wanted.key)
    return wanted.full


def ensure_pause() -> str:
    """The image of every pod's first process."""
    program = binaries.path_of("pause")
    key = hashlib.sha256(program.read_bytes()).hexdigest()[:16]
    full = f"{registry.address()}/finetune-pause:{key}"
    if registry.digest("finetune-pause", key) is None:
        with locks.exclusive(paths.images() / "pause.lock", "building image pause"):
            with tempfile.TemporaryDirectory(dir=paths.images()) as folder:
                archive = Path(folder) / "pause.tar"
                with tarfile.open(archive, "w") as tar:
                    tar.add(program, "pause")
                podman.import_archive(archive, full, 'ENTRYPOINT ["/pause"]')
            _push(full)
    return full


def from_environment(name: str) -> str:
    """The image that the owner of an existing cluster says it can pull."""
    variable = f"FINETUNE_{name.upper()}_IMAGE"
    found = os.environ.get(variable, "")
    if not found:
        raise ClusterError(
            f"{variable} is not set: on an existing cluster, set it to the {name} image, "
            "built from this tree and pushed to where the cluster can pull it."
        )
    return found


def no_node(name: str) -> str:
    raise ClusterError(
        f"The control plane alone runs no pods, so it has no {name} image: "
        "use the fixture `cluster` instead of `control_plane`."
    )


def load_into_kind(name: str, kind: str) -> str:
    """The image of this tree, built by a Docker engine and put on the nodes of a kind cluster."""
    recipe = RECIPES[name]
    require_dockerfile(recipe)
    arguments = {"BASE_IMAGE": load_into_kind(recipe.base, kind)} if recipe.base else {}
    files = content.context_files(recipe.context)
    key = content.key(recipe.context, files, recipe.dockerfile, arguments)
    full = f"finetune-{name}:{key}"
    flags = [flag for item in arguments.items() for flag in ("--build-arg", "=".join(item))]
    with tempfile.TemporaryDirectory() as staged:
        content.stage(recipe.context, files, Path(staged))
        for title, command in (
            (
                f"build image {full}",
                ["docker", "build", "-t", full, "-f", str(recipe.dockerfile), *flags, staged],
            ),
            (f"load image {full}", ["kind", "load", "docker-image", full, "--name", kind]),
        ):
            with progress.step(title):
                result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode != 0:
                raise ClusterError(f"`{' '.join(command)}` failed:\n{result.stderr[-2000:]}")
    return full


def require_dockerfile(recipe: Recipe) -> None:
    if not recipe.dockerfile.exists():
        raise ClusterError(
            f"There is no {recipe.dockerfile}: add it, or check out a commit with it."
        )


def _build(wanted: _Wanted, room_gib: int) -> None:
    if podman.has(wanted.full):
        return
    # With an older version at hand, the large layers are there already.
    if not (paths.images() / wanted.name).exists():
        _require_room(wanted.name, room_gib)
    folder = tempfile.TemporaryDirectory(dir=paths.images(), prefix="context-")
    with progress.step(f"build image {wanted.full}"), folder as staged:
        content.stage(wanted.context, wanted.files, Path(staged))
        podman.build(wanted.full, wanted.dockerfile, Path(staged), wanted.arguments)


def _require_room(name: str, gib: int) -> None:
    free = shutil.disk_usage(paths.images()).free // 2**30
    if free < gib:
        raise ClusterError(
            f"Building the {name} image takes about {gib} GiB and {free} GiB are free in "
            f"{paths.cache()}: free some, or set XDG_CACHE_HOME to a folder on a larger disk."
        )


def _push(full: str) -> None:
    # Collecting the registry's garbage during a push would collect what is being pushed.
    lock = locks.exclusive(paths.images() / "push.lock", "a push to the registry")
    with lock, progress.step(f"push image {full}", quiet_below=progress.QUICK_SECONDS):
        podman.push(full)


def _pull(full: str) -> None:
    """Have the image on the node before any pod asks, so that no test waits for gigabytes."""
    state = paths.state()
    listed = subprocess.run(
        node.ctr(state, "images", "ls", "-q", f"name=={full}"), capture_output=True, text=True
    )
    if listed.returncode != 0:
        raise ClusterError("containerd does not answer: run `make cluster`.")
    if listed.stdout.strip():
        return
    with progress.step(f"pull image {full}"):
        command = node.ctr(state, "images", "pull", "--plain-http", full)
        result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise ClusterError(f"Pulling {full} to the node failed: {result.stderr[-1000:]}")


def _remember(name: str, key: str) -> None:
    folder = paths.images() / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / key).touch()


def _prune(name: str, keep: str) -> None:
    """Forget all but the last few versions, or all others when the disk is nearly full."""
    marks = sorted((paths.images() / name).iterdir(), key=lambda mark: mark.stat().st_mtime)
    room = shutil.disk_usage(paths.images()).free > ROOM_GIB * 2**30
    old = [mark for mark in marks[: -KEPT_VERSIONS if room else -1] if mark.name != keep]
    for mark in old:
        full = f"{registry.address()}/finetune-{name}:{mark.name}"
        registry.delete(f"finetune-{name}", mark.name)
        podman.remove(full)
        command = node.ctr(paths.state(), "images", "rm", full)
        subprocess.run(command, capture_output=True, check=False)
        mark.unlink()
    if old:
        _remove_nameless()
        with locks.exclusive(paths.images() / "push.lock", "a push to the registry"):
            registry.collect_garbage(paths.state() / "registry.json")


def _remove_nameless() -> None:
    """Take from the node what only the kubelet's own references, `sha256:…`, still hold: they
    outlive an image's name, and hold its layers.
    """
    state = paths.state()
    listed = subprocess.run(node.ctr(state, "images", "ls"), capture_output=True, text=True)
    for reference in nameless(listed.stdout):
        command = node.ctr(state, "images", "rm", reference)
        subprocess.run(command, capture_output=True, check=False)


def nameless(listing: str) -> list[str]:
    """Of `ctr images ls`, the references by digest alone to images that have no name any more."""
    lines = [line.split() for line in listing.splitlines()[1:]]
    images = [(reference, digest) for reference, _, digest, *_ in lines]
    named = {digest for reference, digest in images if not reference.startswith("sha256:")}
    return [
        reference
        for reference, digest in images
        if reference.startswith("sha256:") and digest not in named
    ]
