"""Optimizers, schedules of their learning rate, and gradient clipping."""

from minigrad.optim.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop, clip_grad_norm

from minigrad.optim.schedules import (  # isort: skip
    Schedule, cosine_schedule, exponential_schedule, one_cycle_schedule, step_schedule, warmup_schedule,
)  # fmt: skip
from minigrad.names import door

__all__ = [
    "SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "Schedule", "clip_grad_norm", "cosine_schedule",
    "exponential_schedule", "one_cycle_schedule", "step_schedule", "warmup_schedule",
]  # fmt: skip

door(__name__)
