"""The command line: `python -m hub serve …` and `python -m hub seed …`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from .server import serve


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="hub", description="A small Hub for tests.")
    verbs = top.add_subparsers(dest="verb", required=True)

    server = verbs.add_parser("serve", help="run the server")
    server.add_argument("--root", type=Path, required=True, help="folder that holds all state")
    server.add_argument("--host", default="127.0.0.1", help="address to listen on")
    server.add_argument("--port", type=int, default=8080, help="0 takes a free port")
    server.add_argument("--tokens", type=Path, help="JSON file of tokens; none: read-only")
    server.add_argument(
        "--multipart-above", type=int, default=5 << 30, help="LFS part size in bytes"
    )

    seed = verbs.add_parser("seed", help="upload models and data sets with the real client")
    seed.add_argument("--endpoint", default=os.environ.get("HF_ENDPOINT"), help="the Hub's URL")
    seed.add_argument("--token", help="write token; default: $HF_TOKEN")
    seed.add_argument("--tiny", action="store_true", help="tiny/random-llama")
    seed.add_argument("--smollm2", action="store_true", help="HuggingFaceTB/SmolLM2-135M-Instruct")
    seed.add_argument("--wordnet", action="store_true", help="wordnet/glosses")
    return top


def main() -> int:
    arguments = parser().parse_args()
    if arguments.verb == "serve":
        return serve(
            arguments.root,
            arguments.host,
            arguments.port,
            arguments.tokens,
            arguments.multipart_above,
        )
    # Only now: serving must not need the client or torch.
    from .seed import command

    return command(arguments)


if __name__ == "__main__":
    sys.exit(main())
