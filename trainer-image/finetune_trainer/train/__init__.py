"""The `train` stage: LoRA and full fine-tuning of a causal model on the examples `prepare` left.

`recipe.py` reads as the algorithm. Nothing here needs a network, a token or the operator.
"""

from finetune_trainer.train.launch import stage

__all__ = ["stage"]
