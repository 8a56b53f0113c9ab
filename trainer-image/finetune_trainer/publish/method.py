"""What the model card says of a method: its name, its settings, its tag on the Hub."""

from __future__ import annotations

from typing import NamedTuple

from finetune_trainer.publish.wording import Wording
from finetune_trainer.run import Initialization, Lora, Method

Row = tuple[str, str | None]


class OwnCode(NamedTuple):
    """Lines of Python that run code of the repository, and what they import."""

    imported: str = ""
    loaded: str = ""


_TITLES = {
    "full": "full fine-tuning",
    "adapter": "bottleneck adapters",
    "ia3": "IA3",
    "prompt": "prompt tuning",
    "prefix": "prefix tuning",
    "pTuning": "P-tuning",
}
_TAGS = {
    "full": "full-fine-tuning",
    "lora": "lora",
    "adapter": "bottleneck-adapter",
    "ia3": "ia3",
    "prompt": "prompt-tuning",
    "prefix": "prefix-tuning",
    "pTuning": "p-tuning",
}


def method_title(method: Method) -> str:
    """In the middle of a sentence: `full fine-tuning`, `LoRA`, or `DoRA, rank-stabilized (rsLoRA),
    begun by PiSSA`.
    """
    if method.full and method.full.trainable:
        return "fine-tuning of chosen weights"
    if method.lora:
        return _lora(method.lora)
    over = f" over an {method.quantization} base" if method.quantization else ""
    return _TITLES[method.name] + over


def method_tag(method: Method) -> str:
    """As the Hub has tags."""
    return _TAGS[method.name]


def method_rows(method: Method, wording: Wording) -> list[Row]:
    """Settings and their values; a value of None or "" is not shown."""

    def names(found: list[str]) -> str:
        return ", ".join(map(wording.code, found))

    title = method_title(method)
    rows: list[Row] = [("Method", title[0].upper() + title[1:])]
    if lora := method.lora:
        rows += [
            ("Rank, alpha, dropout", f"{lora.rank}, {lora.alpha}, {lora.dropout:g}"),
            ("Adapted modules", names(lora.target_modules)),
            ("Modules trained whole", names(lora.modules_to_save)),
        ]
    if method.full and method.full.trainable:
        rows.append(("Trained parameters' names", names(method.full.trainable)))
    if adapter := method.adapter:
        blocks = names(adapter.target_modules or [])
        rows += [
            ("Reduction factor", f"{adapter.reduction_factor}"),
            ("Non-linearity", adapter.non_linearity),
            ("Adapted blocks", blocks or "the feed-forward block of every layer"),
            ("Modules trained whole", names(adapter.modules_to_save)),
        ]
    if ia3 := method.ia3:
        rows.append(("Scaled modules", names(ia3.target_modules or [])))
    if method.virtual_tokens:
        rows.append(("Virtual tokens", f"{method.virtual_tokens}"))
    if method.prompt and method.prompt.text:
        rows.append(("Begun as", wording.code(method.prompt.text)))
    return rows


def own_code(method: Method, where: str) -> OwnCode:
    """What loading needs besides PEFT; `where` are the arguments that name the repository."""
    if not method.adapter:
        return OwnCode()
    return OwnCode(
        imported="from transformers.dynamic_module_utils import get_class_from_dynamic_module\n",
        loaded="# Runs bottleneck_tuner.py of this repository, because PEFT has no bottleneck\n"
        "# adapters of its own. They cannot be merged into the model.\n"
        f'get_class_from_dynamic_module("bottleneck_tuner.BottleneckConfig", {where})\n',
    )


def rate_remark(method: Method) -> str:
    """What is to be added to the learning rate."""
    ratio = method.lora.lora_plus_ratio if method.lora else 1.0
    return f"; B learns {ratio:g} times as fast as A (LoRA+)" if ratio != 1.0 else ""


def _lora(lora: Lora) -> str:
    initialization = lora.initialization
    parts = (
        "DoRA" if lora.dora else "LoRA",
        "rank-stabilized (rsLoRA)" if lora.rslora else None,
        f"begun by {initialization}" if initialization is not Initialization.DEFAULT else None,
        f"over an {lora.quantization} base (QLoRA)" if lora.quantization else None,
    )
    return ", ".join(part for part in parts if part)
