"""Small networks behind blocks of a frozen model: bottleneck adapters.

What one computes is in `bottleneck_tuner`; here is where they are put.
"""

from __future__ import annotations

from peft import PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from finetune_trainer.architecture import head_modules, peft_task
from finetune_trainer.outcome import UserError
from finetune_trainer.run import BottleneckAdapter, Task
from finetune_trainer.train.methods.bottleneck_tuner import BottleneckConfig
from finetune_trainer.train.methods.modules import require_modules, train_in_float32

_FIELD = "spec.method.adapter"
# What transformers calls a layer's feed-forward block; its last matrix, where it is none of its own
# or (BERT) adds and normalizes, too, which comes behind an adapter.
_FEEDFORWARD = ("mlp", "feed_forward", "ffn", "block_sparse_moe", "fc2", "output.dense")


def add_bottleneck(
    model: PreTrainedModel, adapter: BottleneckAdapter, task: Task = Task.GENERATION
) -> PeftModel:
    """`model`, changed in place: frozen, with a float32 adapter behind the target blocks of every
    layer, and copies that are trained whole of `modulesToSave` and of the head that tells `task`'s
    labels.

    Raises:
        UserError: a layer has no such block, or none that is known as its feed-forward block and no
            name is given; there is no such module to save, or it overlaps with a block; nothing is
            left of the hidden size.
    """
    blocks = _blocks(model)
    direct = [name for name in blocks if "." not in name]
    has = f"what a layer of the model has is: {', '.join(direct) or 'not known'}."
    usual = [name for name in _FEEDFORWARD if name in blocks][:1]
    targets = adapter.target_modules or usual
    if not targets:
        raise UserError(
            f"{_FIELD}.targetModules has to be set, because no block is known as the model's "
            f"feed-forward block; {has}"
        )
    for wanted in targets:
        if wanted not in blocks:
            raise UserError(
                f'{_FIELD}.targetModules names "{wanted}", which is no block of a layer; {has}'
            )
    require_modules(model, f"{_FIELD}.modulesToSave", adapter.modules_to_save)
    adapted_blocks = [name for target in targets for name in blocks[target]]
    _require_apart(model, adapted_blocks, adapter.modules_to_save)
    hidden = model.config.get_text_config().hidden_size
    if adapter.reduction_factor > hidden:
        raise UserError(
            f"{_FIELD}.reductionFactor is {adapter.reduction_factor}, which leaves nothing of the "
            f"model's hidden size, {hidden}: set it to {hidden} or less."
        )
    config = BottleneckConfig(
        target_modules=adapted_blocks,
        modules_to_save=[*adapter.modules_to_save, *head_modules(model, task)] or None,
        reduction_factor=adapter.reduction_factor,
        non_linearity=adapter.non_linearity.lower(),
        task_type=peft_task(task),
    )
    adapted = get_peft_model(model, config, autocast_adapter_dtype=True)
    train_in_float32(model)
    return adapted


def _require_apart(model: nn.Module, adapted: list[str], saved: list[str]) -> None:
    """No module that is trained whole is one of the blocks `adapted`, in one, or around one, which
    PEFT does not allow.

    Raises:
        UserError: some is.
    """
    for wanted in saved:
        for name, _ in model.named_modules():
            if name != wanted and not name.endswith(f".{wanted}"):
                continue
            for block in adapted:
                if f"{name}.".startswith(f"{block}.") or f"{block}.".startswith(f"{name}."):
                    raise UserError(
                        f'{_FIELD}.modulesToSave names "{wanted}", and {name} and {block}, which '
                        "gets an adapter, are one or in one another: leave one of them out of "
                        f"modulesToSave or {_FIELD}.targetModules."
                    )


def _blocks(model: PreTrainedModel) -> dict[str, list[str]]:
    """What an adapter can stand behind: name in the layer → names in the model.

    These are the direct parts of layers that hold matrices, and linear layers in them that write
    the hidden size. Empty where layers are not in a list.
    """
    config = model.config.get_text_config()
    hidden, count = config.hidden_size, config.num_hidden_layers
    found: dict[str, list[str]] = {}
    for name, layers in model.named_modules():
        if not isinstance(layers, nn.ModuleList) or len(layers) != count:
            continue
        for index, layer in enumerate(layers):
            for part, module in layer.named_modules():
                direct = part != "" and "." not in part
                if (direct and any(each.ndim > 1 for each in module.parameters())) or (
                    isinstance(module, nn.Linear) and module.out_features == hidden
                ):
                    found.setdefault(part, []).append(f"{name}.{index}.{part}")
        break
    return found
