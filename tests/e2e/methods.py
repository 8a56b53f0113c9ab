"""A short run of every method and optimizer: what to lay over a spec that trains a small model.

Each is a part of `spec`; what it leaves out is the spec's own.
"""

from __future__ import annotations

from typing import Any


def _lora(**settings: Any) -> dict[str, Any]:
    return {"method": {"lora": {"rank": 8, **settings}}}


def _other(method: str, rate: str, **settings: Any) -> dict[str, Any]:
    return {"method": {method: settings}, "training": {"learningRate": rate}}


def _trained(**training: Any) -> dict[str, Any]:
    return {"method": {"lora": {"rank": 8}}, "training": training}


# Those whose adapter becomes a merged model.
MERGED: dict[str, dict[str, Any]] = {
    "rslora": _lora(rslora=True, loraPlusRatio="4"),
    "dora": _lora(dora=True),
    "pissa": _lora(initialization="PiSSA"),
    "olora": _lora(initialization="OLoRA"),
    "orthogonal": _lora(initialization="Orthogonal"),
    "head": _lora(modulesToSave=["lm_head"]),
    "qlora": {**_lora(quantization="NF4"), "merge": {"base": "Dequantized"}},
    "qdora": _lora(quantization="NF4", dora=True),
    "ia3": _other("ia3", "5e-3"),
    "adafactor": _trained(optimizer={"type": "Adafactor"}),
    "rmsprop": _trained(optimizer={"type": "RMSprop"}, learningRate="1e-4"),
    "sgd": _trained(optimizer={"type": "SGD"}, scheduler={"type": "Linear"}, learningRate="1e-1"),
    "noise": _trained(neftuneNoiseAlpha="5"),
}
# Those whose adapter is all there is.
ALONE: dict[str, dict[str, Any]] = {
    "adapter": _other("adapter", "1e-3", nonLinearity="SiLU"),
    "prompt": _other("prompt", "3e-2", text="Say what the word means."),
    "prefix": _other("prefix", "1e-2"),
    "p-tuning": _other("pTuning", "1e-3"),
}
# Those that make a whole model at once.
WHOLE: dict[str, dict[str, Any]] = {
    "full": _other("full", "5e-5"),
    "partial": _other("full", "1e-4", trainable=["model.layers.2[0-9]", "model.norm"]),
}
EVERY = {**MERGED, **ALONE, **WHOLE}
