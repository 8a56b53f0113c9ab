"""datasets and transformers against the server, each in a process with HF_ENDPOINT set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from hub.fixture import HubServer
from hub.seed import seed_tiny_model
from hub.seed.tiny import build_tiny_model

ROWS = [{"question": f"q{number}", "answer": f"a{number}"} for number in range(50)]

LOAD = """
import socket, sys
connect = socket.getaddrinfo
def guard(host, *rest, **more):
    if host not in ("127.0.0.1", "localhost", None):
        print("LOOKUP", host)
    return connect(host, *rest, **more)
socket.getaddrinfo = guard
from datasets import load_dataset
data = load_dataset(sys.argv[1], revision=sys.argv[2])
print(sorted(data), len(data["train"]), data["train"][7]["answer"])
rows = load_dataset(sys.argv[1], revision=sys.argv[2], split="train[:5]", streaming=False)
print(len(rows))
"""

GENERATE = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], revision=sys.argv[2])
chat = [{"role": "user", "content": "What does the noun mean?"}]
inputs = tokenizer.apply_chat_template(
    chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
out = model.generate(**inputs, max_new_tokens=4, do_sample=False)
assert out.shape[1] > inputs["input_ids"].shape[1]
print(model.config.model_type, tokenizer.eos_token)
"""


def run(server: HubServer, home: Path, script: str, *arguments: str) -> list[str]:
    environment = {**os.environ, **server.environment(home)}
    command = [sys.executable, "-c", script, *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().splitlines()


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_load_dataset(hub_server: HubServer, writer: HfApi, tmp_path: Path, kind: str) -> None:
    import json

    import pyarrow
    import pyarrow.parquet

    repo, folder = f"acme/rows-{kind}", tmp_path / "rows"
    folder.mkdir()
    for split in ("train", "validation"):
        if kind == "jsonl":
            text = "".join(json.dumps(row) + "\n" for row in ROWS)
            (folder / f"{split}.jsonl").write_text(text)
        else:
            table = pyarrow.Table.from_pylist(ROWS)
            pyarrow.parquet.write_table(table, folder / f"{split}.parquet")
    writer.create_repo(repo, repo_type="dataset")
    commit = writer.upload_folder(repo_id=repo, folder_path=folder, repo_type="dataset")
    lines = run(hub_server, tmp_path / "home", LOAD, repo, commit.oid)
    assert lines == ["['train', 'validation'] 50 a7", "5"]


def test_transformers_load_the_tiny_model(
    hub_server: HubServer, writer: HfApi, tmp_path: Path
) -> None:
    sha = seed_tiny_model(writer)
    assert seed_tiny_model(writer) == sha
    lines = run(hub_server, tmp_path / "home", GENERATE, "tiny/random-llama", sha)
    assert lines == ["llama <|im_end|>"]


def test_the_tiny_model_is_a_function_of_its_seed(tmp_path: Path) -> None:
    from hub.seed.publish import hashes

    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        build_tiny_model(tmp_path / name, seed)
        found.append(hashes(tmp_path / name / "model.safetensors"))
    assert found[0] == found[1] != found[2]
    tokenizers = {(tmp_path / name / "tokenizer.json").read_bytes() for name in "abc"}
    assert len(tokenizers) == 1
