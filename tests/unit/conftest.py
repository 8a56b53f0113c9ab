"""How the unit tests are run beside each other; nothing about what they test."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# Fixtures for which minutes of building are to be done on a new machine.
BUILT = {"gitops", "helm", "kustomize"}

# There is a worker for every CPU: more threads would only wait for each other. Before torch is
# loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files whose tests may take longest come first, so that no worker is left alone with one of
    them at the end; those that need what must be built come last.
    """
    files: dict[Path, list[pytest.Item]] = defaultdict(list)
    for item in items:
        files[item.path].append(item)
    items[:] = [
        item for path in sorted(files, key=lambda path: _place(files[path])) for item in files[path]
    ]


def _place(tests: list[pytest.Item]) -> tuple[bool, bool, float, int]:
    """Where a file with these tests stands; others than unit tests stay where they are."""
    if HERE not in tests[0].path.parents:
        return (False, False, 0.0, 0)
    builds = any(BUILT & set(getattr(test, "fixturenames", ())) for test in tests)
    marks = [test.get_closest_marker("timeout") for test in tests]
    longest = max((mark.args[0] for mark in marks if mark), default=0)
    return (True, builds, -float(longest), -len(tests))
