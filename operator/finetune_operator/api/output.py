"""What becomes of the result: `spec.merge` and `spec.upload`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from finetune_operator.api.schema import ApiModel, Cel
from finetune_operator.api.tuning import Precision
from finetune_operator.api.values import Repository, Revision, SecretKeyRef


class MergeBase(StrEnum):
    """The base that an adapter of a quantized base is merged into."""

    ORIGINAL = "Original"
    DEQUANTIZED = "Dequantized"


class Merge(ApiModel):
    """Adapter and base model become one model."""

    base: MergeBase = Field(
        default=MergeBase.ORIGINAL,
        description="Original merges into the base's own weights. Dequantized first rounds those "
        "that method.lora.quantization had quantized as it did: what training computed with.",
    )
    precision: Precision = Field(
        default=Precision.AUTO,
        description="Number format of the merged model; Auto keeps the base model's.",
    )


class Artifact(StrEnum):
    """Adapter is PEFT's adapter, Merged the whole model."""

    ADAPTER = "Adapter"
    MERGED = "Merged"


class Upload(ApiModel):
    """Where the result is published."""

    repository: Repository = Field(
        description="Model repository on the Hub, OWNER/NAME; created if it does not exist."
    )
    branch: Revision = Field(default="main", description="Branch to commit to.")
    private: bool = Field(default=False, description="Create the repository as a private one.")
    artifacts: (
        Annotated[
            list[Artifact],
            Cel(
                "self.all(x, self.exists_one(y, x == y))",
                "artifacts may name each artifact once: remove the second one",
            ),
        ]
        | None
    ) = Field(
        default=None,
        min_length=1,
        max_length=2,
        description="What to publish: Merged (the whole model, at the root) and Adapter (in the "
        "folder adapter, or at the root when alone). Default: both for lora and ia3, Merged for "
        "full, Adapter for the others.",
    )
    token_secret_ref: SecretKeyRef = Field(
        description="Secret with a Hub token that may write to the repository."
    )
