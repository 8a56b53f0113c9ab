"""Bad specs, one sentence each, with a fragment of what the user reads.

Types and bounds of every single field are derived from the schema in `bounds.py`.
"""

from __future__ import annotations

from unit.operator.api.bad_training import BAD_TRAINING
from unit.operator.api.jobs import ABSENT, Case, Json
from unit.operator.api.preference_specs import BAD_PREFERENCES

_DECIMAL = 'must be a decimal number without a sign, in quotes, for example "0.05" or "2e-4"'
_SOURCE = "must be hf://OWNER/NAME (Hugging Face Hub) or pvc://CLAIM/PATH (a volume claim)"
_DATA_SOURCE = (
    "must be hf://OWNER/NAME (Hugging Face Hub), pvc://CLAIM/PATH (a volume claim) or conf"
)
_ONE_OR_SEVERAL = "exactly one of dataset and datasets must be set: dataset is for one data set"
_NAME = "metadata.name must be at most 48 characters of a-z, 0-9 and '-', starting with a letter"
_FORMAT = (
    "exactly one of questionAnswer, messages, sharegpt, promptCompletion, alpaca, template, text, "
    "preference, classification, tokenClassification must be set"
)
_SIZE = "must be a size greater than 0 with a unit, for example 64Gi"
_CPU = 'must be a number of CPUs greater than 0, for example 8 or "500m"'
_FRACTION = 'fraction must be greater than 0 and less than 1, for example "0.05"'
_HELD_OUT = "exactly one of fraction and split must be set: fraction holds out rows"
_CLAIM = "claimName uses a claim as it is: remove size, storageClassName and accessMode"
_UPLOAD: Json = {"repository": "acme/result", "tokenSecretRef": {"name": "hf-write"}}
_FULL: Json = {"full": {}}
_TEXT: Json = {"text": {}}
_CLASSES: Json = {"spec.task": "Classification", "spec.dataset.format": {"classification": {}}}
_PREFERENCE: Json = {"spec.task": "Preference", "spec.dataset.format": {"preference": {}}}
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_NODES: Json = {_REQUIRED: {"nodeSelectorTerms": [{}] * 1000}}
_PAIRS: Json = {"source": "hf://acme/pairs", "format": {"preference": {}}}
_PART: Json = {"source": "hf://acme/part", "format": _TEXT}


def _several(*parts: Json) -> Json:
    return {"spec.dataset": ABSENT, "spec.datasets": list(parts)}


BAD = (
    # metadata.name
    Case("a name of 49 characters", {"metadata.name": "a" * 49}, _NAME),
    Case("a name that starts with a digit", {"metadata.name": "7b-math"}, _NAME),
    Case("a name with a dot", {"metadata.name": "gemma.math"}, _NAME),
    # the shape
    Case("no spec", {"spec": ABSENT}, "spec: Required value"),
    Case("an unknown field", {"spec.trainig": {}}, 'unknown field "spec.trainig"'),
    Case(
        "an unknown field deep inside",
        {"spec.method.lora": {"r": 8}},
        'unknown field "spec.method.lora.r"',
    ),
    Case(
        "an unknown field beside a union's member",
        {"spec.method.qlora": {}},
        'unknown field "spec.method.qlora"',
    ),
    Case("no model", {"spec.model": ABSENT}, "spec.model: Required value"),
    Case("no data", {"spec.dataset": ABSENT}, _ONE_OR_SEVERAL),
    Case("one data set and several", {"spec.datasets": [_PART]}, _ONE_OR_SEVERAL),
    Case("no method", {"spec.method": ABSENT}, "spec.method: Required value"),
    Case(
        "a learning rate without quotes", {"spec.training.learningRate": 0.0002}, "of type string"
    ),
    Case("a rank in quotes", {"spec.method.lora.rank": "16"}, "of type integer"),
    Case("a fraction of an epoch", {"spec.training.epochs": 0.5}, "of type integer"),
    Case("yes for true", {"spec.training.packing": "yes"}, "of type boolean"),
    Case("a bare number as memory", {"spec.resources.memory": 64}, "of type string"),
    # sources
    Case("a model without a scheme", {"spec.model.source": "google/gemma-2-2b-it"}, _SOURCE),
    Case("a model on the web", {"spec.model.source": "https://hf.co/google/gemma"}, _SOURCE),
    Case("a model without an owner", {"spec.model.source": "hf://gpt2"}, _SOURCE),
    Case("a path out of the claim", {"spec.dataset.source": "pvc://data/../../etc"}, _DATA_SOURCE),
    Case("an empty source", {"spec.dataset.source": ""}, _DATA_SOURCE),
    Case("a ConfigMap without a key", {"spec.dataset.source": "configmap://words"}, _DATA_SOURCE),
    Case("a model in a ConfigMap", {"spec.model.source": "configmap://models/tiny"}, _SOURCE),
    Case(
        "a revision of a ConfigMap",
        {"spec.dataset.source": "configmap://words/a.jsonl", "spec.dataset.revision": "main"},
        "spec.dataset: Forbidden: revision belongs to an hf:// source: remove revision",
    ),
    Case("a source with a line break", {"spec.model.source": "hf://acme/model\n"}, _SOURCE),
    Case(
        "a revision of a claim",
        {"spec.model": {"source": "pvc://models/gemma", "revision": "main"}},
        "spec.model: Forbidden: revision belongs to an hf:// source: remove revision",
    ),
    Case(
        "a data set's revision of a claim",
        {"spec.dataset.source": "pvc://data", "spec.dataset.revision": "main"},
        "spec.dataset: Forbidden: revision belongs to an hf:// source: remove revision",
    ),
    Case(
        "a token for a claim",
        {"spec.model": {"source": "pvc://models/gemma", "tokenSecretRef": {"name": "hf-read"}}},
        "spec.model: Forbidden: tokenSecretRef belongs to an hf:// source: remove it",
    ),
    Case(
        "a revision with a space",
        {"spec.model.revision": "my branch"},
        "spec.model.revision: Invalid value: ",
    ),
    Case(
        "a revision that is an option",
        {"spec.model.revision": "--force"},
        "must be a branch, tag or commit: letters, digits, '.', '_', '/' and '-'",
    ),
    Case(
        "a Secret in another namespace",
        {"spec.model.tokenSecretRef": {"name": "team/hf"}},
        "must be the name of an object: a-z, 0-9, '-' and '.', a letter or digit at both ends",
    ),
    Case(
        "a Secret's key that is a path",
        {"spec.model.tokenSecretRef": {"name": "hf", "key": "../token"}},
        "must be a key of a Secret: letters, digits, '-', '_' and '.'",
    ),
    # data
    Case("no format", {"spec.dataset.format": ABSENT}, "spec.dataset.format: Required value"),
    Case("an empty format", {"spec.dataset.format": {}}, _FORMAT),
    Case("two formats", {"spec.dataset.format.text": {}}, _FORMAT),
    Case(
        "a template without the answer",
        {"spec.dataset.format": {"template": {"prompt": "{q}"}}},
        "spec.dataset.format.template.completion: Required value",
    ),
    Case(
        "loss on completions of raw text",
        {"spec.dataset.format": _TEXT, "spec.dataset.loss": "Completions"},
        "format.text has no turns: remove loss, or set it to AllTokens",
    ),
    Case(
        "loss on the last turn of a plain completion",
        {"spec.dataset.format": {"promptCompletion": {}}, "spec.dataset.loss": "LastTurn"},
        "format.promptCompletion has no turns: set loss to Completions or AllTokens",
    ),
    *BAD_PREFERENCES,
    *(
        case
        for task, member, what in (
            ("Classification", "classification", "text and label"),
            ("TokenClassification", "tokenClassification", "words and tags"),
        )
        for case in (
            Case(
                f"{task} of texts without labels",
                {"spec.task": task},
                f"task {task} needs dataset.format.{member}: set it to the columns with {what}",
            ),
            Case(
                f"labels for no {task}",
                {"spec.dataset.format": {member: {}}},
                f"dataset.format.{member} is for task {task}: set task, or another format",
            ),
        )
    ),
    Case(
        "a loss on the tokens of labelled texts",
        {**_CLASSES, "spec.dataset.loss": "LastTurn"},
        "loss chooses among the tokens of a text, but this format trains labels: remove loss",
    ),
    Case(
        "labelled texts packed",
        {**_CLASSES, "spec.training.packing": True},
        "training.packing is for tasks Generation and Preference, others have one document in a "
        "row: remove packing",
    ),
    Case(
        "labels on a quantized base",
        {**_CLASSES, "spec.method.lora.quantization": "NF4"},
        "method.lora.quantization is for tasks Generation and Preference: remove quantization",
    ),
    Case(
        "labels by bottleneck adapters on a quantized base",
        {**_CLASSES, "spec.method": {"adapter": {"quantization": "NF4"}}},
        "method.adapter.quantization is for tasks Generation and Preference: remove quantization",
    ),
    Case(
        "labels by factors",
        {**_CLASSES, "spec.method": {"ia3": {}}},
        "method.ia3 is for tasks Generation and Preference: use method.lora or method.full",
    ),
    Case(
        "preferences by a prompt",
        {**_PREFERENCE, "spec.method": {"prompt": {}}},
        "method.prompt, prefix and pTuning are for task Generation: use method.lora or method.full",
    ),
    Case(
        "a split of its own, stratified",
        {**_CLASSES, "spec.dataset.validation": {"split": "test", "stratified": True}},
        "stratified is for a fraction: remove stratified, or set fraction",
    ),
    Case(
        "a stratified fraction without classes",
        {"spec.dataset.validation": {"fraction": "0.1", "stratified": True}},
        "validation.stratified needs classes: use format.classification, or remove stratified",
    ),
    Case(
        "an unknown task",
        {"spec.task": "Translation"},
        'spec.task: Unsupported value: "Translation": supported values: "Generation"',
    ),
    Case(
        "a loss in lower case",
        {"spec.dataset.loss": "completions"},
        'spec.dataset.loss: Unsupported value: "completions": supported values: "Completions"',
    ),
    Case("validation without a source", {"spec.dataset.validation": {}}, _HELD_OUT),
    Case(
        "validation with two sources",
        {"spec.dataset.validation": {"fraction": "0.1", "split": "test"}},
        _HELD_OUT,
    ),
    Case(
        "a weight for one of two data sets",
        _several({**_PART, "weight": "2"}, _PART),
        "datasets must all have a weight, or none: without weights every row of each is trained",
    ),
    Case(
        "a weight of nothing",
        _several({**_PART, "weight": "0"}, {**_PART, "weight": "1"}),
        'weight must be greater than 0, for example "2" or "0.5"',
    ),
    Case("all rows held out", {"spec.dataset.validation": {"fraction": "1"}}, _FRACTION),
    Case("no rows held out", {"spec.dataset.validation": {"fraction": "0.0"}}, _FRACTION),
    Case("a fraction in percent", {"spec.dataset.validation": {"fraction": "5%"}}, _DECIMAL),
    *BAD_TRAINING,
    # resources, storage, scheduling
    Case("memory without a unit", {"spec.resources.memory": "64"}, _SIZE),
    Case("memory in GB", {"spec.resources.memory": "64GB"}, _SIZE),
    Case("a volume of nothing", {"spec.storage.size": "0Gi"}, _SIZE),
    Case("no CPU", {"spec.resources.cpu": 0}, _CPU),
    Case("a CPU in words", {"spec.resources.cpu": "two"}, _CPU),
    Case("half a CPU without quotes", {"spec.resources.cpu": 0.5}, "of type integer,string"),
    Case(
        "CPU counted in letters",
        {"spec.resources.cpu": "1" * 33},
        "spec.resources.cpu: Too long: may not be more than 32",
    ),
    Case(
        "a GPU without a vendor",
        {"spec.resources.gpuResourceName": "gpu"},
        "must be the resource that a device plugin offers, for example nvidia.com/gpu",
    ),
    Case(
        "two nodes and a volume for one",
        {"spec.resources.nodes": 2, "spec.storage.accessMode": "ReadWriteOnce"},
        "resources.nodes is greater than 1, so storage.accessMode must be ReadWriteMany: set it",
    ),
    Case(
        "data on the claim that becomes the workspace",
        {"spec.storage": {"claimName": "mine"}, "spec.dataset.source": "pvc://mine/data/a.jsonl"},
        "spec.dataset.source is on the claim that is the run's workspace, which prepare clears: "
        "use an empty claim as spec.storage.claimName",
    ),
    Case(
        "a model at the root of the claim that becomes the workspace",
        {"spec.storage": {"claimName": "mine"}, "spec.model": {"source": "pvc://mine"}},
        "spec.model.source is on the claim that is the run's workspace",
    ),
    Case(
        "data on the claim that the operator makes",
        {"metadata.name": "demo", "spec.dataset.source": "pvc://demo-workspace/a.jsonl"},
        "spec.dataset.source is on the claim that is the run's workspace",
    ),
    Case(
        "one of several data sets on the claim that becomes the workspace",
        {
            "spec.storage": {"claimName": "mine"},
            **_several(_PART, {**_PART, "source": "pvc://mine/a.jsonl"}),
        },
        "spec.datasets[].source is on the claim that is the run's workspace",
    ),
    Case(
        "a claim of one's own with a size",
        {"spec.storage": {"claimName": "mine", "size": "1Gi"}},
        _CLAIM,
    ),
    Case(
        "a claim of one's own with a class",
        {"spec.storage": {"claimName": "mine", "storageClassName": "fast"}},
        _CLAIM,
    ),
    Case(
        "a toleration's misspelt effect",
        {"spec.scheduling.tolerations": [{"effect": "NoScheduling"}]},
        'spec.scheduling.tolerations[0].effect: Unsupported value: "NoScheduling"',
    ),
    Case(
        "affinity that is no affinity",
        {"spec.scheduling.affinity": {"a": {"a": {"a": {}}}}},
        'unknown field "spec.scheduling.affinity.a"',
    ),
    Case(
        "affinity without an end",
        {"spec.scheduling.affinity.nodeAffinity": _NODES},
        f"spec.scheduling.affinity.nodeAffinity.{_REQUIRED}.nodeSelectorTerms: Too many",
    ),
    Case(
        "a priority above everybody's",
        {"spec.scheduling.priorityClassName": "system-node-critical"},
        "priorityClassName may not start with system-, which is for what keeps the cluster itself",
    ),
    # merge and upload
    Case(
        "an upload without a token",
        {"spec.upload": {"repository": "acme/result"}},
        "spec.upload.tokenSecretRef: Required value",
    ),
    Case(
        "a repository with its address",
        {"spec.upload": {**_UPLOAD, "repository": "https://huggingface.co/acme/result"}},
        "must be OWNER/NAME, without a scheme or host, for example acme/my-model",
    ),
    Case(
        "an artifact twice",
        {"spec.upload": {**_UPLOAD, "artifacts": ["Merged", "Merged"]}},
        "artifacts may name each artifact once: remove the second one",
    ),
    Case(
        "an adapter of a full run",
        {"spec.method": _FULL, "spec.upload": {**_UPLOAD, "artifacts": ["Adapter"]}},
        "upload.artifacts has Adapter, but method.full makes no adapter: remove Adapter",
    ),
    Case(
        "a merge of a full run",
        {"spec.method": _FULL, "spec.merge": {}},
        "merge is for adapters, but method.full makes a whole model: remove merge",
    ),
)
