"""README.md's command blocks, typed as they stand, by the real kubectl and helm on a real API
server, with the real operator. The test plays the node: there is none.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cluster.handle import Cluster
from cluster.tools import Helm
from finetune_operator.vocabulary import KIND
from integration.kubelet import NODE, Kubelet, running
from integration.operator_process import ROOT, OperatorProcess
from integration.releases import CRD, Releases
from integration.world import World
from unit.helm.chart import NAMESPACE

README = (ROOT / "README.md").read_text()
PRINTED = "what the pod has printed"
# What is not typed here, and where it is done instead.
ELSEWHERE = {
    "make demo": "brings up a cluster with a node: `stack` and `demo`, as tests/e2e does",
    "make test": "is what runs this",
    "docker": "needs an engine: tests/cluster builds both images from the same Dockerfiles",
    "pipx install": "reads a package index; unit/cli/test_main.py runs the same entry points",
}
_BLOCK = re.compile(r"^( *)```console\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)$", re.MULTILINE)
_COMMENT = re.compile(r"\s{2,}#.*$", re.MULTILINE)
_FOLLOWS = re.compile(r" (-w|--watch|--follow)\b")


def commands(page: str = README) -> Iterator[str]:
    """Every command of the page in order, without comments and output."""
    for block in _BLOCK.finditer(page):
        for found in _COMMAND.finditer(textwrap.dedent(block[2])):
            yield _COMMENT.sub("", found[1])


def typed() -> list[str]:
    """Those that this test types. What stands above the first heading is only shown there: who
    reads on installs first.
    """
    above, heading, rest = README.partition("\n## ")
    lines = [*commands(heading + rest), *commands(above)]
    return [line for line in lines if not line.startswith(tuple(ELSEWHERE))]


class Terminal:
    """A person in a clone, with kubectl, helm and the plug-in on the path."""

    def __init__(self, cluster: Cluster, helm: Helm, folder: Path) -> None:
        tools, self._home = folder / "bin", folder / "clone"
        tools.mkdir()
        self._home.mkdir()
        (tools / "kubectl").symlink_to(cluster.kubectl_binary)
        (tools / "helm").symlink_to(helm.binary)
        plugin = tools / "kubectl-finetune"
        plugin.write_text(f"#!{sys.executable}\nfrom finetune_cli.__main__ import main\nmain()\n")
        plugin.chmod(0o755)
        for path in ROOT.iterdir():
            if not path.name.startswith("."):
                (self._home / path.name).symlink_to(path)
        block = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
        assert block is not None
        (self._home / "finetunejob.yaml").write_text(block[1])
        self._environment = {
            "PATH": f"{tools}:/usr/bin:/bin",
            "HOME": str(folder),
            "KUBECONFIG": str(cluster.kubeconfig),
            "PYTHONPATH": str(ROOT / "operator"),
            "PYTHONIOENCODING": "utf-8",
        }

    def applied(self, line: str) -> set[str]:
        """The FineTuneJobs that a command applies."""
        found = re.match(r"kubectl apply -f (\S+)", line)
        if found is None:
            return set()
        parts = yaml.safe_load_all((self._home / found[1]).read_text())
        return {part["metadata"]["name"] for part in parts if part["kind"] == KIND}

    def type(self, line: str) -> str:
        """What a command prints; of one that goes on for ever, the first lines."""
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", line],
            cwd=self._home,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if _FOLLOWS.search(line):
            assert process.stdout is not None
            first = process.stdout.readline() + process.stdout.readline()
            os.killpg(process.pid, 15)
            process.communicate(timeout=30)
            return first
        out, err = process.communicate(timeout=90)
        assert process.returncode == 0, f"$ {line}\n{out}{err}"
        return out


@pytest.fixture
def terminal(own_control_plane: Cluster, helm: Helm, tmp_path: Path) -> Terminal:
    return Terminal(own_control_plane, helm, tmp_path)


def play(world: World, kubelet: Kubelet, run: str) -> None:
    """The node: prepare ends well, train works; both have printed something."""
    prepare = world.run_on(NODE, f"{run}-prepare-1")
    kubelet.log(prepare, PRINTED, close=True)
    world.finish(f"{run}-prepare-1", message="Prepared.", totalSteps=20)
    train = world.run_on(NODE, f"{run}-train-1")
    kubelet.log(train, PRINTED, close=True)


@pytest.mark.timeout(300)
def test_the_quick_start_can_be_typed_as_it_stands(
    own_control_plane: Cluster, helm: Helm, terminal: Terminal, tmp_path: Path
) -> None:
    releases = Releases(own_control_plane, helm.on(own_control_plane.kubeconfig, NAMESPACE))
    world = World(own_control_plane, "default")
    operator: OperatorProcess | None = None
    runs: set[str] = set()
    printed: dict[str, str] = {}
    with running(own_control_plane) as kubelet:
        try:
            for line in typed():
                printed[line] = terminal.type(line)
                if line.startswith("helm install"):
                    own_control_plane.wait_for_crd(CRD)
                    operator = releases.operator(tmp_path)
                    operator.start()
                for run in terminal.applied(line) - runs:
                    play(world, kubelet, run)
                    runs.add(run)
            for run in runs:
                world.wait_for_phase(run, "Training")
        finally:
            if operator is not None:
                operator.kill()
    assert runs
    for line, said in printed.items():
        if line.startswith(("kubectl get ftj", "kubectl describe")):
            assert any(run in said for run in runs), line
        if line.startswith("kubectl logs"):
            assert PRINTED in said, line


def test_what_is_typed_elsewhere_is_on_the_page_and_everything_else_is_typed() -> None:
    lines = list(commands())
    assert len(typed()) >= 6
    for line in set(lines) - set(typed()):
        assert line.startswith(tuple(ELSEWHERE)), line
