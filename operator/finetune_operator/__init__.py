"""The FineTuneJob operator: spec → plan → objects → status.

Layers, enforced by import-linter: shell → runtime → kube | build → core → api → vocabulary.
"""

__version__ = "0.1.0"
