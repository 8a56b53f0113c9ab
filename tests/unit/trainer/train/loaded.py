"""What a training loads on its way, loaded when this is imported, and frozen: processes that are
forked afterwards have it at once, and each saves seconds.

Nothing is computed here, for the threads that compute would not be forked with it.
"""

from __future__ import annotations

import gc
from importlib import import_module

from finetune_trainer.train import recipe  # noqa: F401 (torch, and what takes as long)

# What `recipe` loads only when a run comes to it. One that is left out costs time, nothing else.
LATE = (
    "torch._dynamo",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "transformers.models.llama.modeling_llama",
    "transformers.models.llama.configuration_llama",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "bitsandbytes",
)

for _name in LATE:
    import_module(_name)
# Else the first collection in each child would copy, and go through, all that is here.
gc.collect()
gc.freeze()
