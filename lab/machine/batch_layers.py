"""Batch layers: those whose output for an image depends on the whole batch, computed over the shares of several ranks.

BatchNorm normalises by the mean and the variance of the batch; Dropout draws the random numbers of all its images in
order. torch's SyncBatchNorm needs a GPU, so the sums over the ranks are taken here.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lab.machine.ranks import Ranks


def compute_over_ranks(network: nn.Module, ranks: Ranks) -> None:
    """Let a network's batch layers compute what they would for the whole batch, of which each rank has its share.

    Their parameters, buffers and names stay the same. A copy of the network made before is not affected.
    """
    if ranks.size == 1:
        return
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.forward = partial(_batch_norm, module, ranks)  # type: ignore[method-assign]  # its name stays
        elif isinstance(module, nn.Dropout) and module.p:
            module.forward = partial(_dropout, module, ranks)  # type: ignore[method-assign]  # its name stays


def _dropout(module: nn.Dropout, ranks: Ranks, inputs: Tensor) -> Tensor:
    if not module.training:
        return inputs
    kept = nn.functional.dropout(inputs.new_ones(ranks.share.images, *inputs.shape[1:]), module.p)
    return inputs * kept[ranks.share.rows]


def _batch_norm(module: _BatchNorm, ranks: Ranks, inputs: Tensor) -> Tensor:
    if not module.training or ranks.share.copies > 1:
        return type(module).forward(module, inputs)
    others = [dimension for dimension in range(inputs.dim()) if dimension != 1]
    shape = [-1 if dimension == 1 else 1 for dimension in range(inputs.dim())]
    count = inputs.numel() // inputs.shape[0] // inputs.shape[1] * ranks.share.images
    values = inputs.float()
    mean = _summed(values.sum(dim=others), ranks) / count
    centred = values - mean.view(shape)
    variance = _summed(centred.square().sum(dim=others), ranks) / count
    _track(module, mean.detach(), variance.detach() * (count / max(1, count - 1)))
    normalised = centred * (variance + module.eps).rsqrt().view(shape)
    if module.affine:
        normalised = normalised * module.weight.view(shape) + module.bias.view(shape)
    return normalised.to(inputs.dtype)


@torch.no_grad()
def _track(module: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics towards those of a batch, as torch's BatchNorm does."""
    if module.running_mean is None or module.running_var is None or module.num_batches_tracked is None:
        return
    module.num_batches_tracked.add_(1)
    share = 1 / int(module.num_batches_tracked) if module.momentum is None else module.momentum
    module.running_mean.lerp_(mean, share)
    module.running_var.lerp_(variance, share)


class _Sum(torch.autograd.Function):
    """The sum over the ranks. The gradient of each term is the sum of the ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, ranks: Ranks) -> Tensor:
        """Return the sum."""
        ctx.ranks = ranks
        ranks.sum(summed := tensor.clone(memory_format=torch.contiguous_format))
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of this rank's term."""
        ctx.ranks.sum(summed := gradient.clone(memory_format=torch.contiguous_format))
        return summed, None


def _summed(tensor: Tensor, ranks: Ranks) -> Tensor:
    total: Tensor = _Sum.apply(tensor, ranks)
    return total
