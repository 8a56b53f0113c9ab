from typing import Any

import pytest

from finetune_operator.core.claim import Fit, cannot_grow, fit, unshared


def spec(size: str = "50Gi", mode: str = "ReadWriteOnce", storage: str | None = None) -> Any:
    claim = {"accessModes": [mode], "resources": {"requests": {"storage": size}}}
    return claim | ({"storageClassName": storage} if storage else {})


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        (spec(), spec(), Fit()),
        (spec("100Gi"), spec(), Fit(grows_to="100Gi")),
        (spec("50Gi"), spec("100Gi"), Fit()),
        (spec("1024Gi"), spec("1Ti"), Fit()),
        (spec("2048Pi"), spec("1Ei"), Fit(grows_to="2048Pi")),
        (spec(), spec(storage="default"), Fit()),
        (spec(storage="fast"), spec(storage="fast"), Fit()),
        (spec(mode="ReadWriteOnce"), spec(mode="ReadWriteMany"), Fit()),
    ],
)
def test_a_claim_serves_as_it_is_or_larger(wanted: Any, found: Any, expected: Fit) -> None:
    assert fit("demo-workspace", wanted, found) == expected


@pytest.mark.parametrize(
    ("wanted", "found", "part"),
    [
        (
            spec(storage="fast"),
            spec(storage="slow"),
            "PersistentVolumeClaim demo-workspace is of storage class slow and cannot become fast: "
            "set spec.storage.storageClassName back, or delete the claim",
        ),
        (spec(storage="fast"), spec(), "is of storage class none"),
        (
            spec(mode="ReadWriteMany"),
            spec(),
            "is ReadWriteOnce and cannot become ReadWriteMany: set spec.resources.nodes to 1",
        ),
    ],
)
def test_what_cannot_change_is_told_with_the_remedy(wanted: Any, found: Any, part: str) -> None:
    told = fit("demo-workspace", wanted, found).obstacle or ""
    assert part in told
    assert told.endswith("then change spec.rerunToken.")


def test_who_may_not_grow_is_told_what_to_do() -> None:
    told = cannot_grow("demo-workspace", "100Gi", "only dynamically provisioned pvc can be resized")
    assert "let its storage class allow volume expansion" in told
    assert told.endswith("said: only dynamically provisioned pvc can be resized")


@pytest.mark.parametrize(
    ("nodes", "mode", "serves"),
    [
        (1, "ReadWriteOnce", True),
        (2, "ReadWriteMany", True),
        (2, "ReadWriteOnce", False),
        (2, "ReadWriteOncePod", False),
    ],
)
def test_a_claim_of_the_users_must_serve_all_nodes(nodes: int, mode: str, serves: bool) -> None:
    told = unshared("mine", nodes, spec(mode=mode))
    assert (told is None) is serves
    if told is not None:
        assert told.startswith(f"spec.storage.claimName is mine, which is {mode}, but spec.resour")
