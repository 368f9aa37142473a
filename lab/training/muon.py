"""Muon: an optimizer whose step turns every matrix of weights in all directions alike.

    momentum = mu momentum + (1 - mu) gradient
    step = U V^T,    of (1 - mu) gradient + mu momentum = U S V^T
    weights = (1 - rate decay) weights - rate 0.2 sqrt(max(rows, columns)) step

The singular values are not computed: a Newton-Schulz iteration brings them all near 1 (Jordan 2024,
kellerjordan.github.io/posts/muon). The factor makes a step as long as AdamW's, so that both share a learning rate (Liu
2025, arXiv:2502.16982). A convolution is the matrix of its output channels against all that each of them sees; a
transposed convolution, that of its input channels against all that each of them adds to.

A matrix X of more than twice as many columns as rows, like a convolution of 3x3, is iterated as a product L X of which
only L changes: (L X) (L X)^T = L (X X^T) L^T, so that X itself is multiplied twice instead of ten times.

torch.optim.Muon is the same for matrices alone, in bfloat16, which a CPU without units for it multiplies several times
slower than float32; a test holds the two against each other.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Jordan's coefficients: steep at 0, so that five iterations bring what is 0.01 or more to within 0.7 to 1.2."""
ITERATIONS = 5


def orthogonalised(matrix: Tensor) -> Tensor:
    """Return U V^T, nearly, of a matrix U S V^T; shape (rows, columns)."""
    a, b, c = NEWTON_SCHULZ
    x = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.mT if tall else x
    wide = x.shape[1] > 2 * x.shape[0]
    left, inner = (torch.eye(len(x), dtype=x.dtype, device=x.device), x @ x.mT) if wide else (x, None)
    for _ in range(ITERATIONS):
        gram = left @ (left.mT if inner is None else inner @ left.mT)
        left = torch.addmm(left, torch.addmm(gram, gram, gram, beta=b, alpha=c), left, beta=a)
    directions: Tensor = left @ x if wide else left
    return directions.mT if tall else directions


class Muon(Optimizer):
    """Muon over matrices, convolutions taken for matrices.

    Args:
        parameters: each of two dimensions or more, the first of which is the rows.
        lr: learning rate.
        weight_decay: decoupled.
        momentum: mu.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.95
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # a closure is never given
        """Step every parameter that has a gradient."""
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            for weights in group["params"]:
                if weights.grad is None:
                    continue
                state = self.state[weights]
                if not state:
                    state["momentum"] = torch.zeros_like(weights)
                state["momentum"].lerp_(weights.grad, 1 - momentum)
                # Channels last, as the weights lie in memory; the order of columns does not matter.
                direction = weights.grad.lerp(state["momentum"], momentum).movedim(1, -1)
                matrix = direction.flatten(1)
                step = orthogonalised(matrix).view_as(direction).movedim(-1, 1)
                weights.mul_(1 - rate * group["weight_decay"])
                weights.add_(step, alpha=-rate * 0.2 * max(matrix.shape) ** 0.5)
