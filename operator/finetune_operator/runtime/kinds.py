"""What the operator watches."""

from __future__ import annotations

from finetune_operator.kube.resources import Resource
from finetune_operator.vocabulary import GROUP, LABEL_MANAGED_BY, MANAGER, PLURAL, VERSION

FINETUNEJOBS = Resource(GROUP, VERSION, PLURAL)
OUR_JOBS = f"{LABEL_MANAGED_BY}={MANAGER}"
"""Label selector of the stage Jobs."""
