"""The output head, applied to the supervised positions of a batch and to no others.

Of a token y that follows the hidden state h, with z the logits that the model makes of h,

    log p(y | h) = z_y - log Σ_v exp z_v,    z = W h where the head is plain.

Hidden states are selected before the head and go through it in chunks, so that the [tokens,
vocabulary] logits never exist as a whole, whatever the model does to them. In bfloat16 the head
writes z rounded to eight bits, by a sixteenth where it is 20: which is most of what log p(y | h) is
off by, since the others' errors cancel in their sum. So the target's own logit, and it alone, is
computed a second time, in float32.

What is made of the log-probabilities is the business of `loss.py` and `probabilities.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.distributed.tensor import DTensor
from torch.nn.functional import log_softmax
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from finetune_trainer.train.batches import Batch

# Rows of logits that exist at a time: 256 rows of a 152k vocabulary are 0.16 GB in float32. Fewer
# would read the head's weights too often, more would not stay in a cache.
CHUNK_ROWS = 256
# Logits that a CPU has in float32 at a time: 2 MB of them.
CACHED_LOGITS = 2**19


class Selected(NamedTuple):
    """The supervised positions of a batch: `rows` [n, hidden] are hidden states, `logits` makes
    [m, vocabulary] of m of them, and uses `parameters`.

    Of a model that cannot be cut the rows are its logits already, and nothing is left to use.
    """

    rows: Tensor
    logits: Callable[[Tensor], Tensor]
    parameters: list[nn.Parameter]


@dataclass(frozen=True, slots=True)
class Head:
    """What `model` has behind its decoder.

    `separable` says that the model can be cut there (`decode`, `head_logits`). Of one that cannot,
    all logits exist at once. `plain`: the logits are the product with the head's weight, which is
    frozen and whole on this rank, and nothing else is done to them.
    """

    model: PreTrainedModel
    separable: bool
    plain: bool = False

    def select(self, batch: Batch) -> Selected:
        """The positions of `batch` whose predictions are trained."""
        if not self.separable:
            logits = self.model(**model_inputs(batch)).logits.flatten(0, 1)
            return Selected(logits.index_select(0, batch.positions), lambda rows: rows, [])
        output = decode(self.model, batch)
        rows = output.last_hidden_state.flatten(0, 1).index_select(0, batch.positions)
        kind = type(output)
        head = self.model.get_output_embeddings()
        parameters = list(head.parameters()) if head is not None else []
        return Selected(rows, lambda chunk: head_logits(self.model, kind, chunk), parameters)

    def log_probabilities(self, logits: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
        """log p of each of `targets` [n], float32 [n], from the `logits` [n, vocabulary] of `rows`
        [n, hidden].
        """
        values: Tensor = _LogProbabilities.apply(logits, targets, self._unrounded(rows, targets))
        return values

    def _unrounded(self, rows: Tensor, targets: Tensor) -> Tensor | None:
        """The targets' logits in float32, [n], where the head gives rounded ones."""
        if not self.plain:
            return None
        head = self.model.get_output_embeddings()
        if head.weight.dtype is not torch.bfloat16:
            return None
        with torch.no_grad():
            logits = (rows.float() * head.weight.index_select(0, targets).float()).sum(-1)
            return logits if head.bias is None else logits + head.bias[targets]


def chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """All of them in pieces of the same rows. Of no rows there is one piece, an empty one: a sum
    over it is 0 and every gradient exists and is 0, as ranks that reduce the same tensors need.
    """
    return zip(*(tensor.split(CHUNK_ROWS) for tensor in tensors), strict=True)


def decode(model: PreTrainedModel, batch: Batch) -> ModelOutput:
    """What the decoder, by the name that transformers gives it, says before the output head."""
    return getattr(model, model.base_model_prefix)(**model_inputs(batch))


def head_logits(model: PreTrainedModel, kind: type[ModelOutput], rows: Tensor) -> Tensor:
    """The logits [n, vocabulary] of the hidden states `rows` [n, hidden], which a decoder returned
    in a `kind`.

    They come from the model's own forward pass around a decoder that has its answer ready: what it
    does to them, such as Gemma 2's cap, need not be known here.
    """
    decoder = getattr(model, model.base_model_prefix)
    decoder.forward = lambda *_, **__: kind(last_hidden_state=rows[None])
    try:
        logits: Tensor = model(use_cache=False).logits[0]
    finally:
        del decoder.forward  # the class's own is seen again
    return logits


def model_inputs(batch: Batch) -> dict[str, object]:
    """The keyword arguments of a transformers model for `batch`."""
    inputs: dict[str, object] = {
        "input_ids": batch.input_ids,
        "position_ids": batch.position_ids,
        "use_cache": False,
    }
    if batch.attention_mask is not None:
        inputs["attention_mask"] = batch.attention_mask
    else:
        assert batch.layout is not None
        inputs["layout"] = batch.layout.handle()
    return inputs


def is_elsewhere(parameter: nn.Parameter) -> bool:
    """Whether other ranks hold parts of it (FSDP, ZeRO-3)."""
    return isinstance(parameter, DTensor) or hasattr(parameter, "ds_id")


def is_frozen_here(parameter: nn.Parameter) -> bool:
    """Whether it is not trained, and whole on this rank."""
    return not parameter.requires_grad and not is_elsewhere(parameter)


class _LogProbabilities(Function):  # type: ignore[misc]  # torch is not type-checked
    """log softmax(logits)[target] in float32; logits [n, vocabulary], targets and result [n].
    `unrounded` [n] are the targets' logits, where `logits` has them rounded.

    Its gradient, one at the target minus softmax(logits), is formed at once and in the logits'
    format, for a few rows at a time: in float32 they would leave a core's cache between one pass
    over them and the next.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, unrounded: Tensor | None) -> Tensor:
        values = logits.new_empty(len(logits), dtype=torch.float32)
        given = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        step = _rows_at_a_time(logits)
        for first in range(0, len(logits), step):
            rows = slice(first, first + step)
            places = targets[rows, None]
            logs = log_softmax(logits[rows].float(), -1)
            found = logs.gather(1, places)
            if unrounded is not None:
                off = unrounded[rows, None] - logits[rows].gather(1, places).float()
                # log of the sum of all once the target's share of it is the right one
                found += off - torch.log1p(found.exp() * torch.expm1(off))
            values[rows] = found.squeeze(1)
            if given is not None:
                given[rows] = logs.exp_().neg_().scatter_(1, places, -torch.expm1(found))
        if given is not None:
            ctx.save_for_backward(given)
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (given,) = ctx.saved_tensors
        # Where a gradient is formed in the forward pass the factors are ones: nothing is rounded.
        return given.mul_(gradient[:, None].to(given.dtype)), None, None


def _rows_at_a_time(logits: Tensor) -> int:
    """Of how many rows a copy in float32 is worth its while."""
    if logits.device.type != "cpu":
        return max(1, len(logits))
    vocabulary: int = logits.shape[1]
    return max(1, CACHED_LOGITS // vocabulary)
