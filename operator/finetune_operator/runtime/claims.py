"""What a service-account token says of itself, before anybody has verified it. Pure.

Good for refusing a token that cannot be meant, at no cost; never for believing one: that is the
API server's word (bearer.py).
"""

from __future__ import annotations

import base64
import json
from typing import Any

LONGEST = 8192


def meant_for(token: str, audience: str, namespace: str) -> bool:
    """Whether the token claims this audience and a service account of this namespace."""
    claims = _claims(token)
    audiences = claims.get("aud")
    if isinstance(audiences, str):
        audiences = [audiences]
    return (
        isinstance(audiences, list)
        and audience in audiences
        and str(claims.get("sub")).startswith(f"system:serviceaccount:{namespace}:")
    )


def _claims(token: str) -> dict[str, Any]:
    parts = token.split(".")
    if len(token) > LONGEST or len(parts) != 3:
        return {}
    try:
        # Tokens leave the padding out; what is too much of it is ignored.
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=="))
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}
