"""What the model card says of a method: its name, its settings, its tag on the Hub."""

from __future__ import annotations

from finetune_trainer.publish.markdown import code
from finetune_trainer.run import Initialization, Lora, Method

Row = tuple[str, str | None]

_TITLES = {
    "full": "full fine-tuning",
    "ia3": "IA3",
    "prompt": "prompt tuning",
    "prefix": "prefix tuning",
    "pTuning": "P-tuning",
}
_TAGS = {
    "full": "full-fine-tuning",
    "lora": "lora",
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
    return _lora(method.lora) if method.lora else _TITLES[method.name]


def method_tag(method: Method) -> str:
    """As the Hub has tags."""
    return _TAGS[method.name]


def method_rows(method: Method) -> list[Row]:
    """Settings and their values; a value of None or "" is not shown."""
    title = method_title(method)
    rows: list[Row] = [("Method", title[0].upper() + title[1:])]
    if lora := method.lora:
        rows += [
            ("Rank, alpha, dropout", f"{lora.rank}, {lora.alpha}, {lora.dropout:g}"),
            ("Adapted modules", _codes(lora.target_modules)),
            ("Modules trained whole", _codes(lora.modules_to_save)),
        ]
    if method.full and method.full.trainable:
        rows.append(("Trained parameters' names", _codes(method.full.trainable)))
    if ia3 := method.ia3:
        rows.append(("Scaled modules", _codes(ia3.target_modules or [])))
    if method.virtual_tokens:
        rows.append(("Virtual tokens", f"{method.virtual_tokens}"))
    if method.prompt and method.prompt.text:
        rows.append(("Begun as", code(method.prompt.text)))
    return rows


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
