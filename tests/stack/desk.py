"""A person at a desk: a kubeconfig, kubectl on the path, and the plug-in beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cluster.handle import Cluster
from finetune_cli.errors import Exit

ROOT = Path(__file__).resolve().parents[2]


class Desk:
    """Commands that a person types, in one namespace; each is a process of its own."""

    def __init__(self, cluster: Cluster, namespace: str, directory: Path) -> None:
        self.kubectl = cluster.kubectl_binary
        self.namespace = namespace
        self.directory = directory
        self._path = directory / "bin"
        self._path.mkdir()
        self._script("kubectl-finetune", "from finetune_cli.__main__ import main; main()")
        self._script(
            "kubectl_complete-finetune",
            "from finetune_cli.commands.completion import for_kubectl; for_kubectl()",
        )
        (self._path / "kubectl").symlink_to(self.kubectl)
        self.kubeconfig = cluster.kubeconfig

    def start(self, *arguments: str, kubeconfig: Path | None = None) -> subprocess.Popen[str]:
        """Begin `kubectl …`."""
        return self.launch(str(self.kubectl), *arguments, kubeconfig=kubeconfig)

    def launch(self, *command: str, kubeconfig: Path | None = None) -> subprocess.Popen[str]:
        """Begin any command, in the desk's directory."""
        return subprocess.Popen(
            command,
            cwd=self.directory,
            env={
                "PATH": f"{self._path}:/usr/bin:/bin",
                "HOME": str(self._path),
                "PYTHONPATH": str(ROOT / "operator"),
                "PYTHONIOENCODING": "utf-8",
                "KUBECONFIG": str(kubeconfig or self.kubeconfig),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, code: int = Exit.OK, kubeconfig: Path | None = None) -> str:
        """Run `kubectl finetune …` in our namespace; what it says, if it ends with that code."""
        words = ("finetune", *arguments, "-n", self.namespace)
        return self.end(self.start(*words, kubeconfig=kubeconfig), code)

    def end(
        self, process: subprocess.Popen[str], code: int = Exit.OK, *, seconds: float = 60
    ) -> str:
        """What a command has said, once it has ended with that code."""
        out, err = process.communicate(timeout=seconds)
        # kubectl ends with its plug-in's exit code.
        assert process.returncode == code, err + out
        assert "Traceback" not in err
        if code in (Exit.OK, Exit.USAGE):
            return out
        errors = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(errors) <= 1, err
        return errors[0] if errors else out

    def _script(self, name: str, code: str) -> None:
        script = self._path / name
        script.write_text(f"#!{sys.executable}\n{code}\n")
        script.chmod(0o755)
