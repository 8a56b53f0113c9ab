"""What the Hub is filled with: two models and a data set, uploaded by the real client.

Each module makes one repository's files, from a cache where they are expensive. This one is the
library's face (`seed_tiny_model`, `seed_smollm2`, `seed_wordnet`) and the command behind
`python -m hub seed`.
"""

from __future__ import annotations

import argparse
import os
import sys

from .publish import SeedError
from .smollm2 import seed_smollm2
from .tiny import seed_tiny_model
from .wordnet import seed_wordnet

__all__ = ["SeedError", "command", "seed_smollm2", "seed_tiny_model", "seed_wordnet"]


def command(arguments: argparse.Namespace) -> int:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    wanted = [
        (arguments.tiny, seed_tiny_model),
        (arguments.wordnet, seed_wordnet),
        (arguments.smollm2, seed_smollm2),
    ]
    everything = not any(asked for asked, _ in wanted)
    token = arguments.token or os.environ.get("HF_TOKEN")
    if not arguments.endpoint or not token:
        print("seed needs --endpoint (or HF_ENDPOINT) and --token (or HF_TOKEN)", file=sys.stderr)
        return 2
    api = HfApi(endpoint=arguments.endpoint, token=token)
    try:
        for asked, seed in wanted:
            if asked or everything:
                seed(api)
    except (SeedError, HfHubHTTPError, OSError) as error:
        print(f"seed failed: {error}", file=sys.stderr)
        return 1
    return 0
