"""Values that several parts of the spec share: patterned strings and references to objects.

A pattern comes with a `Remedy`: people read that sentence, not the regular expression.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from finetune_operator.api.schema import INT_OR_STRING, ApiModel, Remedy

# Numbers that are not whole are strings: floats do not round-trip through every client (API
# conventions). Two digits of exponent keep every value within a double.
Decimal = Annotated[
    str,
    Field(max_length=24, pattern=r"^(0|[1-9][0-9]*)(\.[0-9]+)?([eE]-?[0-9]{1,2})?$"),
    Remedy('must be a decimal number without a sign, in quotes, for example "0.05" or "2e-4"'),
]

Column = Annotated[str, Field(min_length=1, max_length=128)]

Source = Annotated[
    str,
    Field(
        max_length=512,
        pattern=(
            r"^(hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*"
            r"|pvc://[a-z0-9][-a-z0-9.]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*)$"
        ),
    ),
    Remedy("must be hf://OWNER/NAME (Hugging Face Hub) or pvc://CLAIM/PATH (a volume claim)"),
]

DataSource = Annotated[
    str,
    Field(
        max_length=512,
        pattern=(
            r"^(hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*"
            r"|pvc://[a-z0-9][-a-z0-9.]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*"
            r"|configmap://[a-z0-9][-a-z0-9.]*/[A-Za-z0-9_][A-Za-z0-9._-]*)$"
        ),
    ),
    Remedy(
        "must be hf://OWNER/NAME (Hugging Face Hub), pvc://CLAIM/PATH (a volume claim) or "
        "configmap://NAME/KEY (a key of a ConfigMap)"
    ),
]

Revision = Annotated[
    str,
    Field(max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$"),
    Remedy("must be a branch, tag or commit: letters, digits, '.', '_', '/' and '-'"),
]

Repository = Annotated[
    str,
    Field(max_length=193, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$"),
    Remedy("must be OWNER/NAME, without a scheme or host, for example acme/my-model"),
]

ObjectName = Annotated[
    str,
    Field(max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"),
    Remedy("must be the name of an object: a-z, 0-9, '-' and '.', a letter or digit at both ends"),
]

SecretKey = Annotated[
    str,
    Field(max_length=253, pattern=r"^[-._a-zA-Z0-9]+$"),
    Remedy("must be a key of a Secret: letters, digits, '-', '_' and '.'"),
]

ResourceName = Annotated[
    str,
    Field(
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
    ),
    Remedy("must be the resource that a device plugin offers, for example nvidia.com/gpu"),
]

# Greater than zero, written as a whole or a decimal number.
_POSITIVE = r"(0*[1-9][0-9]*(\.[0-9]+)?|0+\.0*[1-9][0-9]*)"

# A bare number would be bytes, which nobody means: 64 for 64Gi is refused instead of starved.
Size = Annotated[
    str,
    Field(max_length=32, pattern=rf"^{_POSITIVE}(k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)$"),
    Remedy("must be a size greater than 0 with a unit, for example 64Gi"),
]


def _number_as_string(value: Any) -> Any:
    return str(value) if type(value) is int else value


Cpu = Annotated[
    str,
    Field(max_length=32, pattern=rf"^{_POSITIVE}m?$", json_schema_extra={INT_OR_STRING: True}),
    Remedy('must be a number of CPUs greater than 0, for example 8 or "500m"'),
    BeforeValidator(_number_as_string),
]


class SecretKeyRef(ApiModel):
    """A key of a Secret in the same namespace."""

    name: ObjectName = Field(description="Name of the Secret.")
    key: SecretKey = Field(default="token", description="Key in the Secret that holds the token.")


class LocalRef(ApiModel):
    """An object in the same namespace."""

    name: ObjectName = Field(description="Name of the object.")
