from finetune_operator.api.resource import NAME_LIMIT
from finetune_operator.core import naming
from finetune_operator.vocabulary import Stage

LONGEST = "a" * NAME_LIMIT


def test_the_longest_pod_host_name_fits_a_dns_label() -> None:
    host = f"{naming.job_name(LONGEST, Stage.TRAIN, naming.ATTEMPT_LIMIT)}-511"
    assert len(host) <= 63


def test_every_name_of_the_longest_run_fits_a_label() -> None:
    names = [
        *(naming.job_name(LONGEST, stage, naming.ATTEMPT_LIMIT) for stage in Stage),
        naming.plan_name(LONGEST, "0123456789ab"),
        naming.workspace_name(LONGEST),
        naming.service_name(LONGEST),
    ]
    assert max(len(name) for name in names) <= 63


def test_names_tell_run_stage_and_attempt() -> None:
    assert naming.job_name("demo", Stage.TRAIN, 3) == "demo-train-3"
    assert naming.plan_name("demo", "0123456789ab") == "demo-plan-01234567"


def test_one_pod_meets_itself_without_a_service_and_several_through_it() -> None:
    assert naming.leader_host("demo", 2, nodes=1) == "demo-train-2-0"
    assert naming.leader_host("demo", 2, nodes=2) == "demo-train-2-0.demo-train"
