"""Bad specs of `spec.method` and `spec.training`, one sentence each, as in `bad_specs`."""

from __future__ import annotations

from unit.operator.api.jobs import Case, Json

_DECIMAL = 'must be a decimal number without a sign, in quotes, for example "0.05" or "2e-4"'
_RATE = 'learningRate must be greater than 0 and less than 1, for example "2e-4"'
_METHOD = (
    "exactly one of lora, full, adapter, ia3, prompt, prefix, pTuning must be set: full trains "
    "every weight, the others what stands beside them"
)
_UPLOAD: Json = {"repository": "acme/result", "tokenSecretRef": {"name": "hf-write"}}
_PREFERENCE: Json = {"spec.task": "Preference", "spec.dataset.format": {"preference": {}}}

BAD_TRAINING = (
    Case("no member of method", {"spec.method": {}}, _METHOD),
    Case("both members of method", {"spec.method": {"lora": {}, "full": {}}}, _METHOD),
    Case(
        "a dropout of everything",
        {"spec.method.lora.dropout": "1"},
        'dropout must be less than 1, for example "0.05"',
    ),
    Case(
        "an A that learns faster than B",
        {"spec.method.lora.loraPlusRatio": "0.5"},
        'loraPlusRatio must be from 1 to 1000, for example "16"',
    ),
    Case(
        "a LoRA+ ratio beyond reason",
        {"spec.method.lora.loraPlusRatio": "1001"},
        'loraPlusRatio must be from 1 to 1000, for example "16"',
    ),
    Case(
        "an odd rank from orthogonal matrices",
        {"spec.method.lora": {"rank": 5, "initialization": "Orthogonal"}},
        "initialization Orthogonal needs an even rank: make rank even, or set initialization to "
        "Default",
    ),
    Case(
        "adapters out of a quantized base",
        {"spec.method.lora": {"quantization": "NF4", "initialization": "PiSSA"}},
        "set initialization to Default, Gaussian or Orthogonal, or remove quantization",
    ),
    Case(
        "a module trained whole that gets an adapter too",
        {"spec.method.lora": {"targetModules": ["lm_head"], "modulesToSave": ["lm_head"]}},
        "modulesToSave are trained whole, and targetModules get adapters: remove what both name "
        "from one of them",
    ),
    Case(
        "a merge into a base that was never quantized",
        {"spec.merge": {"base": "Dequantized"}},
        "merge.base Dequantized is for a base that was quantized: set method.lora.quantization, or "
        "remove merge.base",
    ),
    Case(
        "preferences by a prompt",
        {**_PREFERENCE, "spec.method": {"prompt": {}}},
        "task Preference is for method.lora and method.full: use one of them",
    ),
    Case(
        "preferences against a base without its principal part",
        {**_PREFERENCE, "spec.method.lora.initialization": "PiSSA"},
        "task Preference compares with the base, a part of which method.lora.initialization takes "
        "out: set initialization to Default",
    ),
    Case(
        "feed-forward modules without targets",
        {"spec.method": {"ia3": {"feedforwardModules": ["fc2"]}}},
        "feedforwardModules are some of targetModules: set targetModules to all names, theirs "
        "included",
    ),
    Case(
        "a merge of a prompt",
        {"spec.method": {"prompt": {}}, "spec.merge": {}},
        "merge puts into weights what was trained, which method.adapter, prompt, prefix and "
        "pTuning do not allow: remove merge",
    ),
    Case(
        "a merge of bottleneck adapters",
        {"spec.method": {"adapter": {}}, "spec.merge": {}},
        "merge puts into weights what was trained, which method.adapter, prompt, prefix and "
        "pTuning do not allow: remove merge",
    ),
    Case(
        "a merged model with bottleneck adapters",
        {"spec.method": {"adapter": {}}, "spec.upload": {**_UPLOAD, "artifacts": ["Merged"]}},
        "upload.artifacts has Merged, but what method.adapter, prompt, prefix and pTuning train "
        "cannot be merged: set it to [Adapter], or remove it",
    ),
    Case(
        "bottleneck adapters behind a module that is trained whole",
        {"spec.method": {"adapter": {"targetModules": ["mlp"], "modulesToSave": ["mlp"]}}},
        "modulesToSave are trained whole, and targetModules get adapters: remove what both name "
        "from one of them",
    ),
    Case(
        "preferences by bottleneck adapters",
        {**_PREFERENCE, "spec.method": {"adapter": {}}},
        "task Preference is for method.lora and method.full: use one of them",
    ),
    Case(
        "bottleneck adapters of another non-linearity",
        {"spec.method": {"adapter": {"nonLinearity": "Swish"}}},
        "spec.method.adapter.nonLinearity: Unsupported value",
    ),
    Case(
        "a merged model of a prefix",
        {"spec.method": {"prefix": {}}, "spec.upload": {**_UPLOAD, "artifacts": ["Merged"]}},
        "upload.artifacts has Merged, but what method.adapter, prompt, prefix and pTuning train "
        "cannot be merged: set it to [Adapter], or remove it",
    ),
    Case(
        "a prefix that checkpointing would drop",
        {"spec.method": {"prefix": {}}, "spec.training.gradientCheckpointing": True},
        "training.gradientCheckpointing drops the keys and values that method.prefix trains: "
        "remove it, or use method.prompt",
    ),
    Case("a negative dropout", {"spec.method.lora.dropout": "-0.1"}, _DECIMAL),
    Case("epochs and steps", {"spec.training": {"epochs": 1, "maxSteps": 9}}, "remove one"),
    Case("a learning rate of zero", {"spec.training.learningRate": "0"}, _RATE),
    Case("a learning rate of one", {"spec.training.learningRate": "1e0"}, _RATE),
    Case("a learning rate in words", {"spec.training.learningRate": "small"}, _DECIMAL),
    Case("a decimal comma", {"spec.training.learningRate": "0,0002"}, _DECIMAL),
    Case("an exponent beyond doubles", {"spec.training.maxGradNorm": "1e999"}, _DECIMAL),
    Case("not a number", {"spec.training.weightDecay": "NaN"}, _DECIMAL),
    Case(
        "a warm-up of the whole run",
        {"spec.training.scheduler.warmupRatio": "1.0"},
        'warmupRatio must be less than 1, for example "0.03"',
    ),
    Case(
        "slices beside virtual tokens",
        {"spec.method": {"prompt": {}}, "spec.parallelism.strategy": "DeepSpeed"},
        "parallelism.strategy FSDP and DeepSpeed are for method.lora, adapter and full: set "
        "strategy to DDP, or use one of these methods",
    ),
    Case(
        "a path as a module",
        {"spec.training.loss": {"module": "my/losses.py", "function": "focal"}},
        "must be the name of a Python module, for example my_losses",
    ),
    Case(
        "a call as a function",
        {"spec.training.loss": {"module": "losses", "function": "focal(2)"}},
        "must be the name of a Python function, for example focal",
    ),
    Case(
        "a loss of one's own for preferences",
        {**_PREFERENCE, "spec.training.loss": {"module": "losses", "function": "focal"}},
        "training.loss takes the place of task Generation's loss: remove loss, or set task to "
        "Generation",
    ),
    Case(
        "noise of nothing",
        {"spec.training.neftuneNoiseAlpha": "0"},
        'neftuneNoiseAlpha must be greater than 0 and at most 1000, for example "5"',
    ),
    Case(
        "an end of what has none",
        {"spec.training.scheduler": {"type": "Constant", "minRatio": "0.1"}},
        "minRatio is where a rate that falls ends, and this type has no end: remove minRatio",
    ),
    Case(
        "restarts of a line",
        {"spec.training.scheduler": {"type": "Linear", "cycles": 2}},
        "cycles are those of type CosineWithRestarts: remove cycles, or set type to it",
    ),
    Case(
        "a power of a cosine",
        {"spec.training.scheduler.power": "2"},
        "power is that of type Polynomial: remove power, or set type to it",
    ),
    Case(
        "a decay of a cosine",
        {"spec.training.scheduler.decayRatio": "0.1"},
        "decayRatio is that of type WarmupStableDecay: remove decayRatio, or set type to it",
    ),
    Case(
        "an end at the peak",
        {"spec.training.scheduler.minRatio": "1"},
        'minRatio must be less than 1, for example "0.1"',
    ),
    Case(
        "a power of zero",
        {"spec.training.scheduler": {"type": "Polynomial", "power": "0"}},
        'power must be greater than 0 and at most 10, for example "2"',
    ),
    Case(
        "a decay longer than the run",
        {"spec.training.scheduler": {"type": "WarmupStableDecay", "decayRatio": "1.5"}},
        'decayRatio must be greater than 0 and at most 1, for example "0.1"',
    ),
    Case(
        "AdamW's memory in SGD",
        {"spec.training.optimizer": {"type": "SGD", "beta2": "0.95"}},
        "beta1 and beta2 are AdamW's: remove them, or set type to AdamW",
    ),
    Case(
        "an epsilon of SGD",
        {"spec.training.optimizer": {"type": "SGD", "epsilon": "1e-8"}},
        "epsilon is that of AdamW and RMSprop: remove epsilon, or set type to one of them",
    ),
    Case(
        "momentum of AdamW",
        {"spec.training.optimizer.momentum": "0.9"},
        "momentum is SGD's: remove momentum, or set type to SGD",
    ),
    Case(
        "a memory without end",
        {"spec.training.optimizer.beta1": "1"},
        'beta1 must be less than 1, for example "0.9"',
    ),
    Case(
        "squares remembered without end",
        {"spec.training.optimizer.beta2": "1"},
        'beta2 must be less than 1, for example "0.95"',
    ),
    Case(
        "an epsilon of zero",
        {"spec.training.optimizer.epsilon": "0"},
        'epsilon must be greater than 0 and at most 1, for example "1e-8"',
    ),
    Case(
        "momentum without end",
        {"spec.training.optimizer": {"type": "SGD", "momentum": "1"}},
        'momentum must be greater than 0 and less than 1, for example "0.9"',
    ),
    Case(
        "Adafactor over slices",
        {
            "spec.training.optimizer.type": "Adafactor",
            "spec.parallelism.strategy": "FSDP",
        },
        "training.optimizer Adafactor needs whole matrices, and parallelism.strategy FSDP and "
        "DeepSpeed have parts of them: set strategy to DDP, or the optimizer's type to AdamW",
    ),
    Case(
        "a weight decay of one",
        {"spec.training.weightDecay": "1"},
        'weightDecay must be less than 1, for example "0.01"',
    ),
    Case(
        "measuring held-out data that is not there",
        {"spec.training.evaluateEverySteps": 10},
        "set dataset.validation, or remove evaluateEverySteps",
    ),
    Case(
        "stopping early by what is not measured",
        {"spec.training.earlyStopping": {}, "spec.dataset.validation": {"fraction": "0.1"}},
        "set training.evaluateEverySteps and dataset.validation, or remove earlyStopping",
    ),
    Case(
        "choosing the best by what is not measured",
        {"spec.training.loadBestModelAtEnd": True},
        "set training.evaluateEverySteps and dataset.validation, or remove loadBestModelAtEnd",
    ),
    Case(
        "settings of FSDP for another strategy",
        {"spec.parallelism": {"strategy": "DDP", "fsdp": {}}},
        "fsdp has the settings of strategy FSDP: set strategy to FSDP, or remove fsdp",
    ),
    Case(
        "settings of FSDP for a strategy that is not decided yet",
        {"spec.parallelism": {"fsdp": {"cpuOffload": True}}},
        "set strategy to FSDP, or remove fsdp",
    ),
    Case(
        "settings of DeepSpeed for FSDP",
        {"spec.parallelism": {"strategy": "FSDP", "deepspeed": {"stage": 3}}},
        "set strategy to DeepSpeed, or remove deepspeed",
    ),
    Case(
        "a fourth stage",
        {"spec.parallelism": {"strategy": "DeepSpeed", "deepspeed": {"stage": 4}}},
        "spec.parallelism.deepspeed.stage",
    ),
    Case(
        "slices of quantized weights by DeepSpeed",
        {"spec.method.lora.quantization": "NF4", "spec.parallelism.strategy": "DeepSpeed"},
        "method.lora.quantization packs: set strategy to FSDP or DDP, or remove quantization",
    ),
    Case(
        "bottleneck adapters whose quantized base ZeRO-3 would share",
        {
            "spec.method": {"adapter": {"quantization": "NF4"}},
            "spec.parallelism.strategy": "DeepSpeed",
        },
        "parallelism.strategy DeepSpeed in stage 3 cannot share weights that "
        "method.adapter.quantization packs: set strategy to FSDP or DDP, or remove quantization",
    ),
    Case(
        "a strategy that is unknown",
        {"spec.parallelism.strategy": "ZeRO"},
        "spec.parallelism.strategy: Unsupported value",
    ),
    Case(
        "samples of held-out data that is not there",
        {"spec.training.samplesAtEvaluation": 2},
        "set dataset.validation, or remove samplesAtEvaluation",
    ),
    Case("tracking by nothing", {"spec.tracking": {}}, "set tensorboard, wandb or mlflow, or"),
    Case("tracking without a project", {"spec.tracking": {"wandb": {}}}, "project: Required"),
    Case(
        "tracking without an experiment",
        {"spec.tracking": {"mlflow": {}}},
        "experiment: Required",
    ),
)
