"""What the model card says of a method: its name, its settings, its tag on the Hub."""

from __future__ import annotations

from finetune_trainer.publish.markdown import code
from finetune_trainer.run import Initialization, Lora, Method

Row = tuple[str, str | None]


def method_title(method: Method) -> str:
    """In the middle of a sentence: `full fine-tuning`, `LoRA`, or `DoRA, rank-stabilized (rsLoRA),
    begun by PiSSA`.
    """
    return _lora(method.lora) if method.lora else "full fine-tuning"


def method_tag(method: Method) -> str:
    """As the Hub has tags."""
    return "lora" if method.lora else "full-fine-tuning"


def method_rows(method: Method) -> list[Row]:
    """Settings and their values; a value of None or "" is not shown."""
    if method.lora is None:
        return [("Method", "Full fine-tuning")]
    lora = method.lora
    return [
        ("Method", _lora(lora)),
        ("Rank, alpha, dropout", f"{lora.rank}, {lora.alpha}, {lora.dropout:g}"),
        ("Adapted modules", _codes(lora.target_modules)),
        ("Modules trained whole", _codes(lora.modules_to_save)),
    ]


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


def _codes(names: list[str]) -> str:
    return ", ".join(code(name) for name in names)
