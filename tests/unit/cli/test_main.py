"""The command line from outside, as far as it needs no cluster."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from finetune_cli import __main__ as program
from finetune_cli.app import COMMANDS
from finetune_cli.commands.completion import for_kubectl
from finetune_cli.errors import Exit
from unit.cli.calls import MAIN, SAMPLE, called, cli, process

# Without a cluster: arguments, exit code, what is said.
TABLE = [
    (["list"], Exit.NO_CLUSTER, "~/.kube/config cannot be used (there is no such file)"),
    (["status", "x", "--kubeconfig", "/none"], Exit.NO_CLUSTER, "/none cannot be used"),
    (["validate", "/none.yaml"], Exit.BAD, "/none.yaml does not exist"),
    (["plan", "none.yaml"], Exit.BAD, "none.yaml does not exist"),
    (["init", "-"], Exit.USAGE, "--model is missing, and there is no terminal to ask on"),
    (
        ["init", "-", "--model", "a/b", "--dataset", "a/b", "--column", "x"],
        Exit.USAGE,
        "--column x must be FIELD=COLUMN",
    ),
    (
        ["init", "-", "--model", "a b", "--dataset", "a/b"],
        Exit.BAD,
        "That is not a valid FineTuneJob: spec.model.source: must be hf://OWNER/NAME",
    ),
    (
        ["init", "-", "--model", "pvc://a/b", "--dataset", "pvc://a/c", "--token-secret", "x"],
        Exit.USAGE,
        "--token-secret has no use: nothing is read from the Hub, and nothing published.",
    ),
    (
        ["init", "-", "--model", "a/b", "--dataset", "a/b", "--token-secret", "Bad\nName"],
        Exit.BAD,
        "That is not a valid FineTuneJob: spec.model.tokenSecretRef.name: ",
    ),
    (["init", SAMPLE, "--model", "a/b", "--dataset", "a/b"], Exit.BAD, "exists: name another"),
    (["compare", "one"], Exit.USAGE, "compare needs two runs or more"),
    (["lst"], Exit.USAGE, 'There is no command "lst": did you mean list?'),
    (["logs", "x", "--stage", "cook"], Exit.USAGE, "'cook' is not one of 'prepare'"),
    (
        ["wait"],
        Exit.USAGE,
        "error: Missing argument 'NAME...'. `kubectl finetune wait --help` tells more.",
    ),
    (["list", "--al"], Exit.USAGE, "error: No such option"),
    (["export-job", SAMPLE], Exit.USAGE, "The trainer image is not known: say --trainer-image"),
    (
        ["export-job", SAMPLE, "--trainer-image", "t:1", "--node-selector", "gpu"],
        Exit.USAGE,
        '--node-selector is "gpu": set it to KEY=VALUE, several separated by commas.',
    ),
]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"), TABLE, ids=[" ".join(row[0])[:40] for row in TABLE]
)
def test_bad_input_is_told_in_a_sentence(arguments: list[str], code: int, sentence: str) -> None:
    ended = cli(*arguments)
    assert sentence in ended.stderr
    assert (ended.returncode, ended.stdout) == (code, "")
    assert ended.stderr.startswith("error: ")
    assert len(ended.stderr.splitlines()) == 1


def test_the_process_ends_with_the_code_and_without_a_stack_trace() -> None:
    ended = process("list")
    assert (ended.returncode, ended.stdout) == (Exit.NO_CLUSTER, "")
    assert ended.stderr.startswith("error: There is no access to a cluster")
    assert len(ended.stderr.splitlines()) == 1


def test_from_its_sources_it_has_no_version_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", lambda name: f"1.2.3 of {name}")
    assert cli("--version").stdout == "1.2.3 of finetune-operator\n"
    monkeypatch.setattr(metadata, "version", of)
    ended = cli("--version")
    assert (ended.returncode, ended.stdout) == (Exit.OK, "not installed: run from its sources\n")


def test_a_broken_kubeconfig_is_told(tmp_path: Path) -> None:
    for content in ("", "x: [", "kind: Config", "current-context: a\ncontexts: []\n"):
        path = tmp_path / "kubeconfig"
        path.write_text(content)
        ended = cli("list", "--kubeconfig", str(path))
        assert ended.returncode == Exit.NO_CLUSTER, ended.stderr
        assert f"{path} cannot be used" in ended.stderr
        assert len(ended.stderr.splitlines()) == 1


def test_the_kubeconfig_of_the_environment_is_the_one(tmp_path: Path) -> None:
    # Read when the client is imported, so in a process of its own.
    path = str(tmp_path / "none")
    assert f"{path} cannot be used" in process("list", KUBECONFIG=path).stderr


def test_a_fault_of_our_own_is_no_stack_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune_cli.commands.validate.problems", lambda _: 1 / 0)
    ended = cli("validate", SAMPLE)
    assert ended.returncode == Exit.INTERNAL
    assert ended.stderr.startswith("error: This is a fault of the plug-in (ZeroDivisionError")
    assert len(ended.stderr.splitlines()) == 1
    monkeypatch.setenv("FINETUNE_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        program.run(["validate", SAMPLE])


def test_validate_tells_every_problem_and_fails(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(Path(SAMPLE).read_text().replace("rank", "rnk"))
    ended = cli("validate", SAMPLE, str(bad))
    assert ended.returncode == Exit.BAD
    assert ended.stdout == f"{SAMPLE}: FineTuneJob gemma-math is valid.\n"
    assert ended.stderr == (f"{bad}: spec.method.lora.rnk: is not a field: did you mean rank?\n")
    verdicts = json.loads(cli("validate", SAMPLE, str(bad), "-o", "json").stdout)
    assert [verdict["valid"] for verdict in verdicts] == [True, False]


def test_what_init_writes_is_valid_and_has_a_plan(tmp_path: Path) -> None:
    path = str(tmp_path / "run.yaml")
    options = ("--model", "acme/base", "--dataset", "acme/data", "--repository", "acme/tuned")
    assert "is written. Next:" in cli("init", path, *options).stdout
    assert cli("validate", path).returncode == Exit.OK
    gated = cli("init", "-", *options, "--token-secret", "hf-acme").stdout
    assert gated.count("name: hf-acme") == 3
    assert "create secret generic hf-acme" in gated
    plan = yaml.safe_load(cli("plan", path, "-o", "yaml").stdout)
    assert [job["stage"] for job in plan["jobs"]] == ["prepare", "train", "merge", "upload"]


def test_output_that_is_not_a_terminals_is_plain() -> None:
    shown = process("plan", SAMPLE, PYTHONIOENCODING="utf-8", FORCE_COLOR="").stdout
    assert "\x1b" not in shown
    assert [line for line in shown.splitlines() if line != line.rstrip()] == []


def test_an_encoding_without_our_characters_is_no_reason_to_fail() -> None:
    ended = process("plan", SAMPLE, PYTHONIOENCODING="ascii")
    assert ended.returncode == Exit.OK, ended.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    shown = cli(name, "--help")
    assert shown.returncode == Exit.OK
    assert f"Usage: kubectl finetune {name}" in shown.stdout


ALL = {"cel", "kopf", "kubernetes", "pydantic", "rich", "urllib3"}
IMPORTS = [
    (["--help"], ALL),
    (["completion", "bash"], ALL),
    (["validate", SAMPLE], {"kubernetes", "urllib3", "rich"}),
    (["plan", SAMPLE], {"kubernetes", "urllib3"}),
    (["export-job", SAMPLE, "--trainer-image", "t:1"], {"kubernetes", "urllib3", "rich"}),
    (["init", "-", "--model", "a/b", "--dataset", "a/b"], {"kubernetes", "urllib3", "rich"}),
    (["status", "--help"], {"kubernetes", "pydantic", "urllib3"}),
]


@pytest.mark.parametrize(
    ("arguments", "heavy"), IMPORTS, ids=[" ".join(row[0])[:30] for row in IMPORTS]
)
def test_a_command_imports_nothing_heavy_that_it_does_not_need(
    arguments: list[str], heavy: set[str]
) -> None:
    entry = (
        f"import sys, atexit\nheavy = {heavy}\n"
        "atexit.register(lambda: print('loaded', sorted(heavy & set(sys.modules))))\n" + MAIN
    )
    ended = process(*arguments, entry=entry)
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (Exit.OK, "loaded []")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_ask_the_plug_in(shell: str) -> None:
    assert "_KUBECTL_FINETUNE_COMPLETE" in cli("completion", shell).stdout


def test_a_shell_completes_commands_and_options() -> None:
    words = {"COMP_WORDS": "kubectl-finetune res", "COMP_CWORD": "1"}
    asked = cli(_KUBECTL_FINETUNE_COMPLETE="bash_complete", **words)
    assert asked.stdout.split() == ["plain,resume"]


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["su"], ["suspend\tSave a checkpoint and free the GPUs", ":4"]),
        (["logs", "x", "--stage", "p"], ["prepare", ":4"]),
        (["completion", ""], ["bash", "zsh", "fish", ":4"]),
        (["status", ""], [":4"]),
    ],
)
def test_kubectl_completes_by_its_own_protocol(
    words: list[str], lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-finetune", *words])
    assert called(for_kubectl).stdout.splitlines() == lines


def test_called_finetune_it_calls_itself_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/finetune", "run", "--help"])
    assert called(program.main).stdout.startswith("Usage: finetune run [OPTIONS] FILE")
    monkeypatch.setattr(sys, "argv", ["/usr/bin/finetune", "completion", "bash"])
    assert "complete -o nosort -F _finetune_completion finetune" in called(program.main).stdout
