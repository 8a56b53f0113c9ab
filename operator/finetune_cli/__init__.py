"""`kubectl finetune`: what a person does with FineTuneJobs in a terminal.

Layers, enforced by import-linter: commands → show | cluster | files | … → the operator's pure parts
(api, core, build). Nothing here knows kopf, and nothing of the operator knows this package.
"""
