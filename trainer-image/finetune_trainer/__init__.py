"""The containerized trainer: one verb per stage of a FineTuneJob.

The contract is docs/stage-contract.md.
"""
