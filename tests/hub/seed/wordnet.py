"""`wordnet/glosses`: questions about English nouns with WordNet's glosses as answers.

Made from Debian's package `wordnet-base`, which is used where it is installed and otherwise
fetched and unpacked without being installed. Columns: question, answer, category (the
lexicographer file, WordNet's coarse class of nouns).
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .publish import SeedError, cached, publish, say

if TYPE_CHECKING:
    from huggingface_hub import HfApi

REPO = "wordnet/glosses"
VERSION = "1"
TRAIN, VALIDATION = 4096, 512
INSTALLED = Path("/usr/share/wordnet")
# The files 03 to 28 of WordNet's lexicographers, see lexnames(5WN).
CATEGORIES = (
    "tops act animal artifact attribute body cognition communication event feeling food group "
    "location motive object person phenomenon plant possession process quantity relation shape "
    "state substance time"
)
CARD = """---
language: en
license: other
license_name: wordnet
task_categories: [text-generation, text-classification]
pretty_name: WordNet glosses
configs:
- config_name: default
  data_files:
  - {split: train, path: train.jsonl}
  - {split: validation, path: validation.jsonl}
---
# WordNet glosses

Questions about English nouns, answered with the first sense's gloss of Princeton WordNet 3.0.
Columns: `question`, `answer`, and `category`, the lexicographer file of the sense.
WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved.
"""


def fetch_wordnet(folder: Path) -> None:
    """Unpack Debian's package into a folder."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise SeedError("WordNet is missing: install it as /usr/share/wordnet or use Debian")
    say("wordnet-base: download the package (6 MB)")
    download = ["apt-get", "download", "-q", "wordnet-base"]
    result = subprocess.run(download, cwd=folder, capture_output=True, text=True, check=False)
    packages = list(folder.glob("wordnet-base_*.deb"))
    if result.returncode != 0 or len(packages) != 1:
        reason = result.stderr.strip().splitlines()[-1:] or ["no package came"]
        raise SeedError(f"wordnet-base cannot be downloaded (apt-get update helps): {reason[0]}")
    subprocess.run(["dpkg-deb", "-x", str(packages[0]), str(folder)], check=True)
    packages[0].unlink()


def wordnet_folder() -> Path:
    if (INSTALLED / "data.noun").is_file():
        return INSTALLED
    return cached("wordnet-base", fetch_wordnet) / "usr" / "share" / "wordnet"


def nouns(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Word, gloss and category of every plain noun that occurs in WordNet's tagged texts."""
    categories = dict(enumerate(CATEGORIES.split(), 3))
    with (folder / "data.noun").open("rb") as data:
        for line in (folder / "index.noun").read_text().splitlines():
            fields = line.split()
            if line.startswith(" ") or not re.fullmatch(r"[a-z]{3,}", fields[0]):
                continue
            # After lemma, class and count come the pointer symbols, then two counts and offsets.
            tagged, first = int(fields[5 + int(fields[3])]), int(fields[6 + int(fields[3])])
            if tagged == 0:
                continue
            data.seek(first)
            head, _, gloss = data.readline().decode().partition(" | ")
            meaning = re.split(r'; "|;\s*$', gloss.strip())[0].strip()
            yield fields[0], meaning, categories[int(head.split()[1])]


def build_wordnet(folder: Path) -> None:
    """Write the data set's files to a folder; the same words land in the same split each time."""
    rows = sorted(nouns(wordnet_folder()), key=lambda row: hashlib.sha256(row[0].encode()).digest())
    splits = {"validation": rows[:VALIDATION], "train": rows[VALIDATION : VALIDATION + TRAIN]}
    for split, part in splits.items():
        with (folder / f"{split}.jsonl").open("w") as file:
            for word, gloss, category in part:
                question = f"What does the noun '{word}' mean?"
                row = {"question": question, "answer": gloss, "category": category}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    (folder / "README.md").write_text(CARD)


def seed_wordnet(api: HfApi, repo_id: str = REPO) -> str:
    """Upload the data set; its commit."""
    say(f"{repo_id}: build")
    folder = cached(f"wordnet-glosses-{VERSION}", build_wordnet)
    return publish(api, repo_id, folder, repo_type="dataset")
