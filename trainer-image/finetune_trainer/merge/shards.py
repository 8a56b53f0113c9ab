"""Safetensors in and out, a block of rows at a time.

The output has the base's files under the base's names. Memory stays near one block, whatever the
model's size. Belongs here: writing, dtypes and rounding. Does not: what LoRA is, beyond calling for
its rows; the reading of headers (`weights`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import safe_open

from finetune_trainer.merge.lora import Change, Plan, delta_rows
from finetune_trainer.outcome import DefectError, UserError
from finetune_trainer.train.methods.quantization import rounded_to_nf4
from finetune_trainer.weights import INDEX, SINGLE, Shape, Stored, read_header
from finetune_trainer.workspace import write_json

_FLOATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
_NAMES = {dtype: name for name, dtype in _FLOATS.items()}
# 16 Mi elements: 64 MB in float32, large enough for one full-speed matrix product.
_BLOCK_ELEMENTS = 1 << 24
_COPY_BYTES = 1 << 24


@dataclass(slots=True)
class Written:
    """What the merge did: tensors that differ from the base, their elements, and those that do not.

    `dtype` is that of most of the model.
    """

    changed: int = 0
    elements: int = 0
    unchanged_elements: int = 0
    dtype: torch.dtype = torch.float32


def write_merged(
    base: Mapping[str, Stored],
    plan: Plan,
    adapter_file: Path,
    target: Path,
    precision: torch.dtype | None,
) -> Written:
    """Write the merged checkpoint into the directory `target`.

    Every floating tensor is written as `precision`, or as the base has it if that is None. A
    changed tensor is computed in float32 and rounded once.

    Raises:
        UserError: a tensor to change is stored quantized.
    """
    written = Written()
    base = {**base, **_new(base, plan, adapter_file)}
    # A tensor that was shared is written beside the one it was shared with.
    origin = {name: name for name in base} | dict(plan.untied)
    files: dict[Path, list[str]] = {}
    for name, source in origin.items():
        files.setdefault(base[source].file, []).append(name)
    weight_map: dict[str, str] = {}
    total = 0
    sizes: dict[torch.dtype, int] = {}
    with safe_open(adapter_file, framework="pt") as adapter:
        for file, names in sorted(files.items()):
            # Wide elements first: a reader maps every tensor at a multiple of its element's size.
            names.sort(key=lambda name: (-_width(base[origin[name]], precision), name))
            header, size = _header(names, origin, base, precision)
            total += size
            weight_map |= dict.fromkeys(names, file.name)
            with (target / file.name).open("wb") as out, safe_open(file, framework="pt") as weights:
                out.write(header)
                for name in names:
                    stored = base[origin[name]]
                    change = plan.changes.get(name)
                    dtype = _output_dtype(stored, precision)
                    if dtype is not None:
                        count = _elements(stored.shape)
                        sizes[dtype] = sizes.get(dtype, 0) + count
                    if change is None and (dtype is None or _NAMES[dtype] == stored.dtype):
                        _copy_bytes(stored, out)
                        continue
                    if dtype is None:
                        raise UserError(
                            f"The base model stores {name} as {stored.dtype}: "
                            "set spec.model.source to the model that is not quantized."
                        )
                    same = 0
                    for before, block in _blocks(
                        weights, origin[name], stored, change, adapter, dtype
                    ):
                        same += int((before == block).sum()) if change else 0
                        out.write(_raw(block))
                    if change is not None and (change.replacement or change.down or change.factors):
                        written.changed += same < _elements(stored.shape)
                        written.elements += _elements(stored.shape)
                        written.unchanged_elements += same
    # A loader finds one file by its name alone, and every other only through the index.
    if [file.name for file in files] != [SINGLE]:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        write_json(target / INDEX, index)
    if sizes:
        written.dtype = max(sizes, key=lambda dtype: sizes[dtype])
    return written


def _blocks(
    weights: Any,
    name: str,
    stored: Stored,
    change: Change | None,
    adapter: Any,
    dtype: torch.dtype,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Rows as they would be without the adapter, and the rows to write, both in `dtype`."""
    if not stored.shape:
        before = weights.get_tensor(name)
        after = adapter.get_tensor(change.replacement) if change and change.replacement else before
        yield before.to(dtype), after.to(dtype)
        return
    source, key = (adapter, change.replacement) if change and change.new else (weights, name)
    rows = source.get_slice(key)
    if change is not None and change.rounded_from is not None:
        rows = _in_nf4(weights.get_tensor(name), change, change.rounded_from)
    step = max(1, _BLOCK_ELEMENTS * stored.shape[0] // max(1, _elements(stored.shape)))
    spans = [
        (start, min(start + step, stored.shape[0])) for start in range(0, stored.shape[0], step)
    ]
    if change is None:
        for start, stop in spans:
            before = rows[start:stop].to(dtype)
            yield before, before
        return
    changed = _Changed(rows, change, adapter)
    factors = changed.factors(spans)
    for start, stop in spans:
        value = changed.rows(start, stop)
        if factors is not None:
            value = value * (factors[start:stop] if len(factors) > 1 else factors)
        yield rows[start:stop].to(dtype), value.to(dtype)


class _Changed:
    """A tensor with its replacement and its low-rank part, by rows, in float32."""

    def __init__(self, rows: Any, change: Change, adapter: Any) -> None:
        self._rows = adapter.get_slice(change.replacement) if change.replacement else rows
        self._change = change
        self._pair = None
        if change.down is not None and change.up is not None:
            self._pair = adapter.get_tensor(change.down), adapter.get_tensor(change.up)
        self._norms = adapter.get_tensor(change.norms).float() if change.norms else None
        self._factors = adapter.get_tensor(change.factors).float() if change.factors else None

    def rows(self, start: int, stop: int) -> torch.Tensor:
        value: torch.Tensor = self._rows[start:stop].float()
        if self._pair is not None:
            value = value + delta_rows(*self._pair, self._change, start, stop)
        return value

    def factors(self, spans: list[tuple[int, int]]) -> torch.Tensor | None:
        """What the tensor is multiplied with, [rows, 1] or [1, columns], or [rows] of a vector: the
        trained factors, or what gives the weights of every output the norm that was trained. None
        where neither is trained.
        """
        if self._factors is not None:
            if self.rows(0, 1).ndim == 1:
                return self._factors.flatten()
            return self._factors.T if self._change.transposed else self._factors
        if self._norms is None:
            return None
        blocks = (self.rows(start, stop).square() for start, stop in spans)
        if self._change.transposed:
            squares = sum((block.sum(dim=0) for block in blocks), torch.zeros(()))
            return (self._norms / squares.sqrt())[None, :]
        squares = torch.cat([block.sum(dim=1) for block in blocks])
        return (self._norms / squares.sqrt())[:, None]


def _in_nf4(weight: torch.Tensor, change: Change, dtype: torch.dtype) -> torch.Tensor:
    """All of it at once: the scales of NF4's blocks are quantized together."""
    weight = weight.to(dtype)
    return rounded_to_nf4(weight.T).T if change.transposed else rounded_to_nf4(weight)


def _new(base: Mapping[str, Stored], plan: Plan, adapter_file: Path) -> dict[str, Stored]:
    """The tensors that the base does not have, to stand in its first file and most used format."""
    names = {name: change.replacement for name, change in plan.changes.items() if change.new}
    if not names:
        return {}
    formats = Counter(stored.dtype for stored in base.values() if stored.dtype in _FLOATS)
    first = min(stored.file for stored in base.values())
    adapter = read_header(adapter_file)
    return {
        name: Stored(first, formats.most_common(1)[0][0], adapter[key].shape, 0, 0)
        for name, key in names.items()
        if key is not None
    }


def _header(
    names: list[str],
    origin: Mapping[str, str],
    base: Mapping[str, Stored],
    precision: torch.dtype | None,
) -> tuple[bytes, int]:
    """The header of a safetensors file with `names` in this order, and its data's size in bytes."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name in names:
        stored = base[origin[name]]
        dtype = _output_dtype(stored, precision)
        size = (
            stored.stop - stored.start
            if dtype is None
            else _elements(stored.shape) * dtype.itemsize
        )
        entries[name] = {
            "dtype": stored.dtype if dtype is None else _NAMES[dtype],
            "shape": list(stored.shape),
            "data_offsets": [position, position + size],
        }
        position += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, position


def _output_dtype(stored: Stored, precision: torch.dtype | None) -> torch.dtype | None:
    """The dtype to write, None for what is copied as it is (integers, quantized weights)."""
    own = _FLOATS.get(stored.dtype)
    return own if own is None or precision is None else precision


def _copy_bytes(stored: Stored, out: BinaryIO) -> None:
    with stored.file.open("rb") as stream:
        stream.seek(stored.start)
        left = stored.stop - stored.start
        while left:
            data = stream.read(min(left, _COPY_BYTES))
            if not data:
                raise DefectError(f"{stored.file.name} is shorter than its header says.")
            out.write(data)
            left -= len(data)


def _raw(block: torch.Tensor) -> memoryview:
    return memoryview(block.contiguous().reshape(-1).view(torch.uint8).numpy())


def _width(stored: Stored, precision: torch.dtype | None) -> int:
    dtype = _output_dtype(stored, precision)
    return (
        dtype.itemsize if dtype else (stored.stop - stored.start) // max(1, _elements(stored.shape))
    )


def _elements(shape: Shape) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
