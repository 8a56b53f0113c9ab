"""Good specs, one sentence each, at the edges of what is accepted.

Together they hold every object of the schema: `bounds.py` changes them field by field.
"""

from __future__ import annotations

from unit.operator.api.jobs import ABSENT, Case, Json
from unit.operator.api.preference_specs import GOOD_PREFERENCES

_UPLOAD: Json = {"repository": "acme/result", "tokenSecretRef": {"name": "hf-write"}}
_FULL: Json = {"full": {}}
_TEXT: Json = {"text": {}}
_PREFERENCE: Json = {"spec.task": "Preference", "spec.dataset.format": {"preference": {}}}
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_PART: Json = {"source": "hf://acme/part", "format": _TEXT}
_FORMATS: tuple[Json, ...] = (
    {"questionAnswer": {}},
    {"messages": {}},
    {"sharegpt": {}},
    {"promptCompletion": {}},
    {"alpaca": {}},
    {"template": {"prompt": "{a}", "completion": "{b}"}},
    _TEXT,
)
_NODES: Json = {
    "matchExpressions": [{"key": "gpu", "operator": "In", "values": ["a100", "h100"]}],
    "matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["node-1"]}],
}
_PODS: Json = {
    "matchLabels": {"team": "a"},
    "matchExpressions": [{"key": "app", "operator": "In", "values": ["cache"]}],
}
_PLACE: Json = {
    "topologyKey": "topology.kubernetes.io/zone",
    "labelSelector": _PODS,
    "namespaceSelector": _PODS,
    "namespaces": ["team-b"],
    "matchLabelKeys": ["tier"],
    "mismatchLabelKeys": ["release"],
}
_NEAR: Json = {
    _REQUIRED: [_PLACE],
    _PREFERRED: [{"weight": 100, "podAffinityTerm": _PLACE}],
}

GOOD = (
    Case("the least that can be said"),
    Case("a name of 48 characters", {"metadata.name": "a" * 48}),
    Case("a name of one letter", {"metadata.name": "a"}),
    Case("labels and annotations", {"metadata.labels": {"team": "a"}}),
    Case("dots and underscores in a source", {"spec.model.source": "hf://a.b_c/Model-1.5_x"}),
    Case("the root of a claim", {"spec.model.source": "pvc://models"}),
    Case(
        "a source's claim whose name only begins like the workspace's",
        {"spec.model.source": "pvc://mine-too/a", "spec.storage.claimName": "mine"},
    ),
    Case("a deep path in a claim", {"spec.dataset.source": "pvc://data/a/b.c/d_e/f.jsonl"}),
    Case("a pull request as revision", {"spec.model.revision": "refs/pr/3"}),
    Case("a commit as revision", {"spec.dataset.revision": "0" * 40}),
    Case("a slice of a split", {"spec.dataset.split": "train[10%:20%]"}),
    Case(
        "a gated model and private data",
        {
            "spec.model.tokenSecretRef": {"name": "hf-read"},
            "spec.dataset.tokenSecretRef": {"name": "hf.read", "key": "HF_TOKEN"},
        },
    ),
    Case("a column with a space", {"spec.dataset.format.questionAnswer.question": "Frage 1 ä"}),
    Case("chats", {"spec.dataset.format": {"messages": {}}, "spec.dataset.loss": "LastTurn"}),
    Case("raw text", {"spec.dataset.format": _TEXT}),
    Case(
        "raw text, said twice",
        {"spec.dataset.format": _TEXT, "spec.dataset.loss": "AllTokens"},
    ),
    Case(
        "all tokens of plain completions",
        {"spec.dataset.format": {"promptCompletion": {}}, "spec.dataset.loss": "AllTokens"},
    ),
    Case("alpaca", {"spec.dataset.format": {"alpaca": {"output": "response"}}}),
    Case(
        "templates", {"spec.dataset.format": {"template": {"prompt": "{a}\n", "completion": "{b}"}}}
    ),
    Case("turns of ShareGPT", {"spec.dataset.format": {"sharegpt": {}}}),
    Case("data in a ConfigMap", {"spec.dataset.source": "configmap://words.v1/train.jsonl.gz"}),
    Case(
        "several data sets as they are",
        {"spec.dataset": ABSENT, "spec.datasets": [_PART, {**_PART, "source": "pvc://more"}]},
    ),
    Case(
        "data sets, the first with a held-out split",
        {
            "spec.dataset": ABSENT,
            "spec.datasets": [{**_PART, "validation": {"split": "test"}}, _PART],
        },
    ),
    *(
        Case(
            f"data sets by weight, the first with {next(iter(format))}",
            {
                "spec.dataset": ABSENT,
                "spec.datasets": [
                    {
                        **_PART,
                        "format": format,
                        "tokenSecretRef": {"name": "hf-read"},
                        "validation": {"fraction": "0.1"},
                        "weight": "0.5",
                    },
                    {**_PART, "weight": "2"},
                ],
                "spec.training.evaluateEverySteps": 1,
            },
        )
        for format in _FORMATS
    ),
    *GOOD_PREFERENCES,
    Case(
        "classes",
        {
            "spec.task": "Classification",
            "spec.dataset.format": {"classification": {"text": "review", "label": "stars"}},
            "spec.dataset.validation": {"fraction": "0.1", "stratified": True},
        },
    ),
    Case(
        "tags",
        {
            "spec.task": "TokenClassification",
            "spec.dataset.format": {"tokenClassification": {"tags": "ner_tags"}},
            "spec.training.packing": False,
        },
    ),
    Case(
        "classes of several data sets, some held out of each",
        {
            "spec.task": "Classification",
            "spec.dataset": ABSENT,
            "spec.datasets": [
                {
                    **_PART,
                    "format": {"classification": {}},
                    "validation": {"fraction": "0.1", "stratified": True},
                }
            ],
        },
    ),
    *(
        Case(
            f"{task} of several data sets",
            {
                "spec.task": task,
                "spec.dataset": ABSENT,
                "spec.datasets": [{**_PART, "format": {member: {}}}] * 2,
            },
        )
        for task, member in (
            ("Classification", "classification"),
            ("TokenClassification", "tokenClassification"),
        )
    ),
    Case("a task, said twice", {"spec.task": "Generation"}),
    Case("a held-out split", {"spec.dataset.validation": {"split": "test"}}),
    Case("a tiny fraction", {"spec.dataset.validation": {"fraction": "1e-6"}}),
    Case("nearly everything held out", {"spec.dataset.validation": {"fraction": "0.999"}}),
    Case(
        "measuring now and then",
        {"spec.dataset.validation": {"split": "test"}, "spec.training.evaluateEverySteps": 1},
    ),
    Case(
        "the best of what is measured, and no longer than needed",
        {
            "spec.dataset.validation": {"fraction": "0.1"},
            "spec.training.evaluateEverySteps": 50,
            "spec.training.earlyStopping": {"patience": 5, "minDelta": "1e-3"},
            "spec.training.loadBestModelAtEnd": True,
            "spec.training.samplesAtEvaluation": 4,
        },
    ),
    Case("tracking", {"spec.tracking": {"tensorboard": {}, "wandb": {"project": "glosses"}}}),
    Case("tracking by MLflow alone", {"spec.tracking": {"mlflow": {"experiment": "glosses"}}}),
    Case("an impatient run", {"spec.runPolicy": {"stallSeconds": 60}}),
    Case("a full run", {"spec.method": _FULL}),
    Case("a full run's upload", {"spec.method": _FULL, "spec.upload": _UPLOAD}),
    Case(
        "a full run's model by name",
        {"spec.method": _FULL, "spec.upload": {**_UPLOAD, "artifacts": ["Merged"]}},
    ),
    Case("both artifacts", {"spec.upload": {**_UPLOAD, "artifacts": ["Adapter", "Merged"]}}),
    Case("only the adapter", {"spec.upload": {**_UPLOAD, "artifacts": ["Adapter"]}}),
    Case("a merge without upload", {"spec.merge": {"precision": "Float32"}}),
    Case("steps", {"spec.training.maxSteps": 1}),
    Case("a learning rate with exponent", {"spec.training.learningRate": "2e-4"}),
    Case("a learning rate with big E", {"spec.training.learningRate": "2.5E-5"}),
    Case(
        "restarts that never reach zero",
        {
            "spec.training.scheduler": {
                "type": "CosineWithRestarts",
                "cycles": 1000,
                "minRatio": "0.1",
                "warmupSteps": 0,
            }
        },
    ),
    Case(
        "a parabola",
        {"spec.training.scheduler": {"type": "Polynomial", "power": "2", "warmupRatio": "0"}},
    ),
    Case(
        "a long plain and a short fall",
        {"spec.training.scheduler": {"type": "WarmupStableDecay", "decayRatio": "1"}},
    ),
    Case(
        "a shorter memory of squares",
        {"spec.training.optimizer": {"beta1": "0", "beta2": "0.95", "epsilon": "1"}},
    ),
    Case("SGD", {"spec.training.optimizer": {"type": "SGD", "momentum": "0.99"}}),
    Case("RMSprop", {"spec.training.optimizer": {"type": "RMSprop", "epsilon": "1e-6"}}),
    Case("Adafactor", {"spec.training.optimizer": {"type": "Adafactor"}}),
    Case(
        "a loss from a ConfigMap",
        {
            "spec.training.loss": {
                "module": "my.losses_2",
                "function": "focal",
                "configMapRef": {"name": "losses"},
            }
        },
    ),
    Case("noise", {"spec.training.neftuneNoiseAlpha": "5"}),
    Case("no clipping", {"spec.training.maxGradNorm": "0"}),
    Case("a dropout just below one", {"spec.method.lora.dropout": "0.999"}),
    Case("rank-stabilized LoRA", {"spec.method.lora.rslora": True}),
    Case("LoRA+ with one rate", {"spec.method.lora.loraPlusRatio": "1"}),
    Case("LoRA+ at its most", {"spec.method.lora.loraPlusRatio": "1e3"}),
    Case("chosen modules", {"spec.method.lora.targetModules": ["q_proj", "layers.0.v_proj"]}),
    Case(
        "DoRA from the base's principal part, with a head trained whole",
        {
            "spec.method.lora": {
                "dora": True,
                "initialization": "PiSSA",
                "modulesToSave": ["lm_head"],
                "targetModules": ["q_proj"],
            }
        },
    ),
    Case(
        "an even rank from orthogonal matrices",
        {"spec.method.lora": {"rank": 6, "initialization": "Orthogonal"}},
    ),
    Case(
        "QLoRA, merged into what training computed with",
        {
            "spec.method.lora": {"quantization": "NF4", "initialization": "Gaussian", "dora": True},
            "spec.merge": {"base": "Dequantized"},
        },
    ),
    Case(
        "the last layers and the head alone",
        {"spec.method": {"full": {"trainable": ["model.layers.2[0-9].*", "lm_head", "a-b_?[!c]"]}}},
    ),
    Case("bottleneck adapters", {"spec.method": {"adapter": {}}, "spec.upload": _UPLOAD}),
    Case(
        "bottleneck adapters where Houlsby et al. put them, for labels",
        {
            "spec.task": "Classification",
            "spec.dataset.format": {"classification": {}},
            "spec.method": {
                "adapter": {
                    "reductionFactor": 8,
                    "nonLinearity": "SiLU",
                    "targetModules": ["self_attn", "mlp"],
                    "modulesToSave": ["embed_tokens"],
                }
            },
        },
    ),
    Case(
        "sharded bottleneck adapters on a quantized base",
        {
            "spec.method": {"adapter": {"quantization": "NF4"}},
            "spec.parallelism.strategy": "FSDP",
        },
    ),
    Case("IA3 where PEFT puts it", {"spec.method": {"ia3": {}}}),
    Case(
        "IA3 on chosen modules, merged",
        {
            "spec.method": {
                "ia3": {"targetModules": ["k_proj", "fc2"], "feedforwardModules": ["fc2"]}
            },
            "spec.merge": {},
        },
    ),
    Case(
        "a prompt that begins as a sentence",
        {"spec.method": {"prompt": {"virtualTokens": 4096, "text": "Answer in German: "}}},
    ),
    Case(
        "a prefix and its upload",
        {
            "spec.method": {"prefix": {"virtualTokens": 1}},
            "spec.upload": {**_UPLOAD, "artifacts": ["Adapter"]},
        },
    ),
    Case(
        "P-tuning with a narrow encoder",
        {"spec.method": {"pTuning": {"encoderHiddenSize": 1}}, "spec.upload": _UPLOAD},
    ),
    Case("three nodes", {"spec.resources.nodes": 3}),
    Case(
        "two nodes on a shared volume",
        {"spec.resources.nodes": 2, "spec.storage.accessMode": "ReadWriteMany"},
    ),
    Case("two nodes on a claim", {"spec.resources.nodes": 2, "spec.storage.claimName": "mine"}),
    Case("one node's volume", {"spec.storage": {"size": "0.5Ti", "accessMode": "ReadWriteOnce"}}),
    Case("a claim that stays", {"spec.storage": {"claimName": "mine", "reclaim": "Retain"}}),
    Case("a copy of the model in every process", {"spec.parallelism.strategy": "DDP"}),
    Case(
        "slices of the model that wait in the pods' memory",
        {"spec.parallelism": {"strategy": "FSDP", "fsdp": {"cpuOffload": True}}},
    ),
    Case(
        "quantized weights in every process",
        {
            "spec.method.lora.quantization": "NF4",
            "spec.parallelism": {"strategy": "DeepSpeed", "deepspeed": {"stage": 2}},
        },
    ),
    Case(
        "slices of quantized weights",
        {"spec.method.lora.quantization": "NF4", "spec.parallelism.strategy": "FSDP"},
    ),
    Case("the optimizer's state shared", {"spec.parallelism.strategy": "DeepSpeed"}),
    Case(
        "the optimizer's state in the pods' memory",
        {
            "spec.parallelism": {
                "strategy": "DeepSpeed",
                "deepspeed": {"stage": 2, "offload": "CPU"},
            }
        },
    ),
    Case("CPUs as a number", {"spec.resources.cpu": 8}),
    Case("CPUs in thousandths", {"spec.resources.cpu": "500m"}),
    Case("half a CPU in quotes", {"spec.resources.cpu": "0.5"}),
    Case("memory in powers of ten", {"spec.resources.memory": "64G"}),
    Case("a GPU slice", {"spec.resources.gpuResourceName": "nvidia.com/mig-1g.10gb"}),
    Case("suspended from the start", {"spec.suspend": True}),
    Case("a rerun token from the start", {"spec.rerunToken": "2026-01-31"}),
    Case(
        "a toleration of everything", {"spec.scheduling.tolerations": [{"operator": "Exists"}, {}]}
    ),
    Case(
        "affinity with all that a pod's has",
        {
            "spec.scheduling.affinity": {
                "nodeAffinity": {
                    _REQUIRED: {"nodeSelectorTerms": [_NODES]},
                    _PREFERRED: [{"weight": 1, "preference": _NODES}],
                },
                "podAffinity": _NEAR,
                "podAntiAffinity": _NEAR,
            }
        },
    ),
    Case(
        "affinity to pods of every namespace",
        {
            "spec.scheduling.affinity.podAntiAffinity": {
                _REQUIRED: [{"topologyKey": "zone", "labelSelector": {}, "namespaceSelector": {}}]
            }
        },
    ),
    Case("an explicit null as if it were absent", {"spec.merge": None, "spec.training": None}),
    Case(
        "an image of one's own",
        {
            "spec.trainer": {
                "image": "registry.local:5000/trainer@sha256:" + "0" * 64,
                "imagePullPolicy": "Always",
                "imagePullSecrets": [{"name": "registry.key"}],
            }
        },
    ),
)
