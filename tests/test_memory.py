"""Memory: how many images fit follows the memory there is, and what the network's layers return."""

from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import nn

from lab.machine.memory import LARGEST, SHARE, images_that_fit

CPU = torch.device("cpu")


class OneLayer(nn.Module):
    """Returns 4 channels of 8x8 float32 an image: 1,024 bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 1)

    def forward(self, x_t: torch.Tensor, timesteps: torch.Tensor, conditions: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x_t)[:, :1]
        return out


@pytest.mark.parametrize("fit", [1, 7, 200])
def test_as_many_fit_as_memory_holds(fit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Guidance gives the network two images for one.
    total = int(fit * 2 * 1024 / SHARE) + 1
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=total))
    assert images_that_fit(OneLayer(), (1, 8, 8), 3, CPU) == fit


@pytest.mark.parametrize(("total", "fit"), [(10, 1), (10**12, LARGEST)])
def test_at_least_one_and_at_most_so_many(total: int, fit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=total))
    assert images_that_fit(OneLayer(), (1, 8, 8), 3, CPU) == fit
