"""`python -m finetune_trainer.run` prints the schema of `run.json`."""

from finetune_trainer.run import run_schema

print(run_schema(), end="")
