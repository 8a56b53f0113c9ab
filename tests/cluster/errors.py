"""The one exception that a person sees: a sentence that says what is wrong and what to do."""

from __future__ import annotations


class ClusterError(Exception):
    """Printed without a traceback; the message names the remedy."""
