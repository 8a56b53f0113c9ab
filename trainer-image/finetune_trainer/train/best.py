"""Which evaluation was the best, and whether waiting for a better one is worth it.

Evaluations of the base model do not count: it is what the run starts from. Where the best weights
are kept is `saving.py`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from finetune_trainer.run import EarlyStopping


@dataclass(frozen=True, slots=True)
class Evaluations:
    """Of a run so far: the step of the latest, step and metrics of the best, and for patience the
    loss that the last real gain came to and how many evaluations there were since.
    """

    latest_step: int | None = None
    best_step: int | None = None
    best: dict[str, float] = field(default_factory=dict)
    reference: float | None = None
    without_gain: int = 0

    def after(
        self, step: int, metrics: dict[str, float], policy: EarlyStopping | None
    ) -> Evaluations:
        """With the evaluation after `step`; `metrics` holds its loss. Of equal ones the first is
        best, and the base model's, before the first step, is none of them.

        A gain is a loss lower by more than the policy's `min_delta` than at the last gain, as in
        Keras: small ones add up until they are one.
        """
        if step == 0:
            return Evaluations(latest_step=0)
        loss, min_delta = metrics["loss"], policy.min_delta if policy else 0.0
        better = self.best_step is None or loss < self.best["loss"]
        gain = self.reference is None or loss < self.reference - min_delta
        return Evaluations(
            latest_step=step,
            best_step=step if better else self.best_step,
            best=metrics if better else self.best,
            reference=loss if gain else self.reference,
            without_gain=0 if gain else self.without_gain + 1,
        )

    def exhausted(self, policy: EarlyStopping | None) -> bool:
        """Whether the run is to stop now (Prechelt, 1998, in its simplest form)."""
        return policy is not None and self.without_gain >= policy.patience
