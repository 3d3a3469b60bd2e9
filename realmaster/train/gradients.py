"""What processes that train together do with their gradients. Works on parameters; knows no model and no launcher."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


def average_gradients(trained: Iterable[nn.Parameter]) -> None:
    """Give every process the mean of all processes' gradients; alone, leave them as they are."""
    if not torch.distributed.is_initialized():
        return
    gradients = [weight.grad for weight in trained if weight.grad is not None]
    mean = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(mean)
    mean /= torch.distributed.get_world_size()
    for gradient, part in zip(gradients, mean.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
