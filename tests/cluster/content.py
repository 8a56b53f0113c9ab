"""What an image is made of: the files that enter its build, and a key over all of it.

Only files that git tracks or does not ignore count, less those that `.dockerignore` leaves out, so
that a stray file neither changes the key nor reaches the image.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

_FIXED_TIME = 1_600_000_000


def context_files(context: Path) -> list[str]:
    """The files of a build context, relative to it and sorted."""
    command = ["git", "-C", str(context), "ls-files", "-z", "-co", "--exclude-standard"]
    result = subprocess.run(command, capture_output=True)
    if result.returncode == 0:
        names = set(result.stdout.decode().split("\0")) - {""}
    else:
        names = {str(path.relative_to(context)) for path in context.rglob("*")}
    rules = _rules(context / ".dockerignore")
    return sorted(
        name
        for name in names
        if ((context / name).is_file() or (context / name).is_symlink())
        and not ignored(name, rules)
    )


def _rules(path: Path) -> list[str]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def ignored(name: str, rules: list[str]) -> bool:
    """Whether `.dockerignore` rules leave a file out: the last rule that matches decides."""
    result = False
    for rule in rules:
        keep = rule.startswith("!")
        pattern = _pattern(rule.lstrip("!").strip("/"))
        if pattern.fullmatch(name):
            result = not keep
    return result


def _pattern(rule: str) -> re.Pattern[str]:
    """A rule matches a path and everything below it; `**` spans folders, `*` does not."""
    parts = []
    for token in re.split(r"(\*\*/|\*\*|\*|\?)", rule):
        parts.append(
            {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(token, re.escape(token))
        )
    return re.compile("".join(parts) + "(?:/.*)?")


def key(context: Path, files: list[str], dockerfile: Path, arguments: Mapping[str, str]) -> str:
    """The content key: contents, names and modes of the files, the Dockerfile, the arguments."""
    digest = hashlib.sha256(dockerfile.read_bytes())
    for name, value in sorted(arguments.items()):
        digest.update(f"\0{name}={value}".encode())
    for name in files:
        path = context / name
        if path.is_symlink():
            kind, content = "link", os.readlink(path).encode()
        else:
            kind = "program" if os.access(path, os.X_OK) else "file"
            content = path.read_bytes()
        digest.update(f"\0{kind} {name} {hashlib.sha256(content).hexdigest()}".encode())
    return digest.hexdigest()[:16]


def stage(context: Path, files: list[str], target: Path) -> None:
    """Copy exactly these files, with times that do not differ between two clones."""
    for name in files:
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(context / name, copy, follow_symlinks=False)
        os.utime(copy, (_FIXED_TIME, _FIXED_TIME), follow_symlinks=False)
    for folder, _, _ in os.walk(target):
        os.utime(folder, (_FIXED_TIME, _FIXED_TIME))
