"""Fixtures that any test may ask for; each starts only what is asked for."""

from __future__ import annotations

pytest_plugins = ["cluster.fixture", "hub.fixture"]
