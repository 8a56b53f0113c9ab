"""One cluster, one operator and one Hub for all end-to-end tests; a namespace for each test.

Several run at a time, but for those that take the operator away.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.handle import Cluster
from e2e.bench import Bench, Stack, bench_on
from stack import operator, whole

# Pods start and load torch one after the other; each wait has a limit and message of its own.
TEST_SECONDS = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "bench" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(TEST_SECONDS))


@pytest.fixture(scope="session")
def stack(cluster: Cluster) -> Stack:
    whole.install(cluster)
    return Stack(cluster)


@pytest.fixture
def bench(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Bench]:
    alone = request.node.get_closest_marker("without_operator") is not None
    with bench_on(stack.cluster, "e2e", alone=alone) as bench:
        yield bench
        if request.session.testsfailed:
            print(bench.describe())
            print(operator.logs(stack.cluster))
