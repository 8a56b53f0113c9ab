"""What stands beside the base is chosen here by the plan; how each kind works has a file of its
own.
"""

from __future__ import annotations

from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel

from finetune_trainer.run import Method, Task
from finetune_trainer.train.methods.bottleneck import add_bottleneck
from finetune_trainer.train.methods.ia3 import add_ia3
from finetune_trainer.train.methods.lora import add_lora
from finetune_trainer.train.methods.virtual_tokens import add_virtual_tokens


def add_adapter(
    model: PreTrainedModel, method: Method, directory: Path | None, task: Task = Task.GENERATION
) -> PeftModel | None:
    """`model`, changed in place: frozen, with what `method` trains beside it in float32; None for
    full training, which leaves it as it is. `directory` holds the model's tokenizer, which a
    prompt's text needs.

    Raises:
        UserError: model and method do not fit together.
    """
    if method.lora:
        return add_lora(model, method.lora, task)
    if method.adapter:
        return add_bottleneck(model, method.adapter, task)
    if method.ia3:
        return add_ia3(model, method.ia3)
    if method.virtual_tokens:
        return add_virtual_tokens(model, method, directory)
    return None
