"""Ranks: the processes that train one network together, as torchrun starts them.

The first rank runs the command: it alone reads, samples, writes and prints. The others wait for its calls, which bring
all that a training needs, so that only the first rank's machine needs the data. In a training, every rank computes its
share of each batch, and the batch's gradient is the sum over the ranks.

Without torchrun's environment variables there is one rank, and nothing here does anything. Importing this imports no
torch.
"""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING, Any

from lab.errors import LabError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.distributed import ProcessGroup
    from torch.distributed.distributed_c10d import Store

LONGEST_STEP = timedelta(seconds=60)
"""How long a rank waits for the others within a step. Connections of a process that dies close at once; this is for a
machine that vanishes."""
AS_LONG_AS_IT_TAKES = timedelta(days=365)
"""How long a rank waits for the first one, which may sample for hours between two trainings."""
STEP, LEAVE, CALL, END = range(4)
"""What the first rank sends: take a step; leave this training; call a function; there is nothing more to do."""


class ProcessLostError(BaseException):
    """A rank has ended before the work was done.

    It is no Exception, because some code takes any Exception for a damaged file.
    """

    def __init__(self) -> None:
        super().__init__(
            "a process of this training has ended; finished work is saved, and the same command resumes it, with any "
            "number of processes"
        )


@dataclass(frozen=True)
class Share:
    """A rank's part of a batch.

    Args:
        rows: its rows of the batch.
        images: the number of images in the whole batch.
        copies: the number of ranks that compute each row: 1, or all of them for a batch with fewer images than ranks.
    """

    rows: slice
    images: int
    copies: int = 1


class Ranks:
    """The processes of this command, seen from one of them.

    Args:
        rank: this process, from 0.
        size: the number of processes.
        on_machine: the number of processes on this machine.
        place: this process among those of its machine, from 0.
        store: what all processes can write to.
        group: connections for the steps of a training, which time out.
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        on_machine: int = 1,
        place: int = 0,
        store: Store | None = None,
        group: ProcessGroup | None = None,
    ) -> None:
        self.rank, self.size, self.on_machine, self.place = rank, size, on_machine, place
        self._store, self._group = store, group
        self.share = Share(slice(None), 0)
        self._dismissed = False

    def shared(self, images: int) -> Share:
        """Return this rank's share of a batch, and remember it as `share`.

        No rank's share is empty: of a batch with fewer images than ranks, every rank computes the whole.
        """
        if images < self.size:
            self.share = Share(slice(0, images), images, self.size)
        else:
            ends = (images * self.rank // self.size, images * (self.rank + 1) // self.size)
            self.share = Share(slice(*ends), images)
        return self.share

    def sum(self, tensor: Tensor) -> None:
        """Replace a contiguous tensor by its sum over the ranks, the same bits on each.

        Raises:
            ProcessLostError: a rank has ended.
        """
        if self.size > 1:
            import torch.distributed

            with _losses_raised():
                torch.distributed.all_reduce(tensor, group=self._group)

    def sum_gradients(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
        """Replace every gradient by its sum over the ranks, and return the sum of the losses."""
        if self.size == 1:
            return loss
        import torch

        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        summed = torch.cat([loss.reshape(1), *(gradient.flatten() for gradient in gradients)])
        self.sum(summed)
        total, *parts = torch.split(summed, [1, *(gradient.numel() for gradient in gradients)])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))
        return total.squeeze()

    def device(self, first: torch.device) -> torch.device:
        """Return this rank's device, one GPU for each process of a machine.

        Args:
            first: the first rank's device.

        Raises:
            LabError: this machine has fewer GPUs than processes, or the device is neither a CPU nor a CUDA GPU.
        """
        if self.size == 1 or first.type == "cpu":
            return first
        if first.type != "cuda":
            raise LabError(
                f"--device is {first}, which trains in one process; run without torchrun, or on --device cpu"
            )
        import torch

        index, count = (first.index or 0) + self.place, torch.cuda.device_count()
        if index >= count:
            raise LabError(
                f"{self.on_machine} processes on a machine need as many GPUs from cuda:{first.index or 0} on; it "
                f"has {count}; lower --nproc-per-node"
            )
        torch.cuda.set_device(index)
        return torch.device("cuda", index)

    def call(self, function: Callable[..., None], *arguments: Any) -> None:
        """Have every other rank call a function of a module; the first rank goes on at once."""
        if self.size > 1:
            self._send(CALL, pickle.dumps((function, arguments)))

    def serve(self) -> None:
        """Do what the first rank calls for, until it has nothing more to do."""
        while not self._dismissed:
            message, content = self._receive()
            if message == CALL:
                function, arguments = pickle.loads(content)
                function(*arguments)

    @contextmanager
    def training(self) -> Iterator[None]:
        """Share the processors of this machine for the duration of a training; the other ranks leave it at its end."""
        if self.size == 1:
            yield
            return
        import torch.distributed

        threads = torch.get_num_threads()
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, threads // self.on_machine))
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            # Python may close a training that was given up after the processes have parted.
            if self.rank == 0 and torch.distributed.is_initialized():
                with suppress(ProcessLostError):
                    self._send(LEAVE)

    def next_step(self) -> bool:
        """Whether there is another step: the first rank says so to the others, which wait for it."""
        if self.size == 1:
            return True
        if self.rank == 0:
            self._send(STEP)
            return True
        return self._receive()[0] == STEP

    def first_to_report(self) -> bool:
        """Whether no other rank has reported an error, so that each error is printed once."""
        if self._store is None:
            return True
        try:
            return self._store.add("reports", 1) == 1
        except RuntimeError:  # the store has ended too
            return True

    def _send(self, message: int, content: bytes = b"") -> None:
        import torch

        self._broadcast(torch.tensor([message, len(content)]))
        if content:
            self._broadcast(torch.frombuffer(bytearray(content), dtype=torch.uint8))

    def _receive(self) -> tuple[int, bytes]:
        import torch

        self._broadcast(head := torch.zeros(2, dtype=torch.int64))
        message, length = head.tolist()
        # It may come in the middle of a training that the first rank gave up.
        self._dismissed = message == END
        content = torch.empty(length, dtype=torch.uint8)
        if length:
            self._broadcast(content)
        return message, content.numpy().tobytes()

    def _broadcast(self, tensor: Tensor) -> None:
        import torch.distributed

        with _losses_raised():
            torch.distributed.broadcast(tensor, 0)


@contextmanager
def _losses_raised() -> Iterator[None]:
    """Raise ProcessLostError where torch says that a connection has broken."""
    try:
        yield
    except RuntimeError as error:
        raise ProcessLostError from error


_present = Ranks()


def present_ranks() -> Ranks:
    """Return the processes that this one belongs to: itself, unless torchrun started it with others."""
    return _present


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the processes that torchrun started with this one, for the duration of the block.

    At its end, the first rank dismisses the others. Ctrl-C reaches the first rank alone, which ends the others.

    Raises:
        LabError: torchrun's environment variables are incomplete, or the first rank cannot be reached.
        ProcessLostError: another process has ended, or torchrun ends all.
    """
    global _present
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield _present
        return
    import torch.distributed
    from torch.distributed.rendezvous import rendezvous

    # torchrun sends it when a process has ended.
    signal.signal(signal.SIGTERM, _end)
    try:
        store, rank, size = next(rendezvous("env://"))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(
            backend, store=store, rank=rank, world_size=size, timeout=AS_LONG_AS_IT_TAKES
        )
        group: Any = torch.distributed.new_group(timeout=LONGEST_STEP)
    except (RuntimeError, ValueError) as error:
        raise LabError(
            f"the processes of this command cannot join ({str(error).splitlines()[0]:.120}); start them by torchrun"
        ) from None
    on_machine, place = (
        int(os.environ.get(name, default)) for name, default in (("LOCAL_WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))
    )
    if rank:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    _present = Ranks(rank, size, on_machine, place, store, group)
    try:
        yield _present
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if rank == 0:
            with suppress(ProcessLostError):
                _present._send(END)
    torch.distributed.destroy_process_group()


def _end(number: int, frame: FrameType | None) -> None:
    raise ProcessLostError
