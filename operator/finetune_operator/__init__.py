"""The FineTuneJob operator: spec → plan → objects → status.

Layers, enforced by import-linter: shell → runtime → kube | build → core → api → vocabulary.
"""
