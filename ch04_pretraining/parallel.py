"""Several processes, one training run: torch.distributed behind two strategies.

ddp (Li et al. 2020): every process holds the whole model and averages the gradients. fsdp (Zhao et
al. 2023): every process holds a part of each weight, its gradient and its optimizer state, and
gathers a block's weights when it is needed. `torchrun` starts the processes; each takes its part of
every batch, so that N processes do what one would do with the same batch.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from ch03_gpt import GPTModel

# what a process waits for another, which may have a large corpus to tokenize
PATIENCE = timedelta(hours=6)
Strategy = Literal["single", "ddp", "fsdp"]


def process_part() -> tuple[int, int]:
    """(number of this process, number of processes): which part of a batch it takes."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def is_first_process() -> bool:
    """Is this the process that prints and writes? A process on its own is."""
    return process_part()[0] == 0


def n_processes() -> int:
    return process_part()[1]


def average(sums: Tensor) -> Tensor:
    """The mean of a tensor over all processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(sums)
        sums /= dist.get_world_size()
    return sums


@contextlib.contextmanager
def first_process_first() -> Iterator[None]:
    """Let the first process through alone, then the others: what it left on disk they only need
    to read.
    """
    if not is_first_process():
        dist.barrier()
    yield
    if is_first_process() and dist.is_initialized():
        dist.barrier()


@contextlib.contextmanager
def processes(strategy: Strategy, device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started; yields the device of this one. Only the first one
    prints.

    ValueError where strategy and torchrun do not go together.
    """
    started_by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    if strategy == "single":
        if started_by_torchrun and int(os.environ["WORLD_SIZE"]) > 1:
            raise ValueError(
                "torchrun started several processes; say how they share the work: --strategy ddp or"
                " fsdp"
            )
        yield device
        return
    if not started_by_torchrun:
        raise ValueError(
            f"--strategy {strategy} needs several processes; start it with torchrun"
            " --nproc-per-node 2 in the place of python"
        )
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        with contextlib.ExitStack() as stack:
            if dist.get_rank() > 0:
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
                stack.enter_context(contextlib.redirect_stderr(sys.stdout))
            yield device
    finally:
        dist.destroy_process_group()


class LossModule(nn.Module):
    """Model and loss function as one module, because gradients are shared when the outermost
    forward is left.
    """

    def __init__(self, model: GPTModel, loss_fn):
        super().__init__()
        self.model, self.loss_fn = model, loss_fn

    def forward(self, *batch: Tensor) -> tuple[Tensor, Tensor]:
        return self.loss_fn(self.model, batch)


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor of which each process holds a part; any other tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """`tensor` cut and spread as `parameter` is, if it has that shape; otherwise as it is."""
    if isinstance(parameter, DTensor) and tensor.shape == parameter.shape:
        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
    return tensor


def parallelize(model: GPTModel, loss_fn, strategy: Strategy):
    """Return (module, loss function) for `train`: what runs forward, and how its loss is asked for.

    fsdp replaces the parameters of `model` by its part of them, so make optimizers afterwards.
    """
    if strategy == "single":
        return model, loss_fn
    module = LossModule(model, loss_fn)
    if strategy == "fsdp":
        for block in model.trf_blocks:
            fully_shard(block)
        fully_shard(module)
    else:
        module = DistributedDataParallel(module)
    return module, lambda module, batch: module(*batch)
