"""A run of each method, by its part of `run.json`."""

from __future__ import annotations

from typing import Any

RANK: dict[str, Any] = {"rank": 4, "alpha": 8}

LORA: dict[str, dict[str, Any]] = {
    "lora": {"lora": RANK},
    "dora": {"lora": {**RANK, "dora": True, "dropout": "0.1"}},
    "pissa": {"lora": {**RANK, "initialization": "PiSSA"}},
    "olora": {"lora": {**RANK, "initialization": "OLoRA", "rslora": True}},
    "orthogonal": {"lora": {**RANK, "initialization": "Orthogonal"}},
    "gaussian": {"lora": {**RANK, "initialization": "Gaussian"}},
    "embeddings": {"lora": {**RANK, "targetModules": ["embed_tokens", "q_proj", "up_proj"]}},
    "modules to save": {"lora": {**RANK, "modulesToSave": ["lm_head", "embed_tokens"]}},
    "dora from pissa with a saved norm": {
        "lora": {**RANK, "dora": True, "initialization": "PiSSA", "modulesToSave": ["model.norm"]}
    },
    "qlora": {"lora": {**RANK, "quantization": "NF4"}},
    "qdora with a saved module": {
        "lora": {**RANK, "quantization": "NF4", "dora": True, "modulesToSave": ["down_proj"]}
    },
}

BOTTLENECK: dict[str, dict[str, Any]] = {
    "bottleneck": {"adapter": {"reductionFactor": 4}},
    "bottleneck behind attention, too, and a saved norm": {
        "adapter": {
            "reductionFactor": 8,
            "nonLinearity": "SiLU",
            "targetModules": ["self_attn", "mlp"],
            "modulesToSave": ["model.norm"],
        }
    },
    "bottleneck over four bits": {
        "adapter": {"reductionFactor": 4, "quantization": "NF4", "modulesToSave": ["o_proj"]}
    },
}

IA3: dict[str, dict[str, Any]] = {
    "ia3": {"ia3": {}},
    "ia3 of chosen modules": {"ia3": {"targetModules": ["q_proj", "up_proj"]}},
}

VIRTUAL_TOKENS: dict[str, dict[str, Any]] = {
    "prompt": {"prompt": {"virtualTokens": 8}},
    "prompt from a text": {"prompt": {"virtualTokens": 8, "text": "Count:"}},
    "prefix": {"prefix": {"virtualTokens": 4}},
    "p-tuning": {"pTuning": {"virtualTokens": 8, "encoderHiddenSize": 24}},
}

FULL: dict[str, dict[str, Any]] = {
    "full": {"full": {}},
    "last layer and norm": {"full": {"trainable": ["model.layers.1.*", "model.norm"]}},
}
