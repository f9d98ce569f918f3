"""Several processes, one training run: torch.distributed behind two strategies.

ddp (Li et al. 2020): every process holds the whole model, and gradients are averaged. fsdp (Zhao et
al. 2023): every process holds a shard of each weight, its gradient and its optimizer state, and
gathers a block's weights when it needs them. `torchrun` starts the processes; each takes its part
of every batch, so that N processes do what one would do with the same batch.
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

# how long processes wait for each other: rank zero may have a large data set to tokenize
TIMEOUT = timedelta(hours=6)
Strategy = Literal["single", "ddp", "fsdp"]


def get_rank_and_world_size() -> tuple[int, int]:
    """(number of this process, number of processes); (0, 1) without torch.distributed."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def is_rank_zero() -> bool:
    """Is this the process that prints and writes files? A single process is."""
    return get_rank_and_world_size()[0] == 0


def get_world_size() -> int:
    return get_rank_and_world_size()[1]


def all_reduce_mean(tensor: Tensor) -> Tensor:
    """The mean of a tensor over all processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
        tensor /= dist.get_world_size()
    return tensor


@contextlib.contextmanager
def rank_zero_first() -> Iterator[None]:
    """Run the block in rank zero first and then in the others, which find its files on disk."""
    if not is_rank_zero():
        dist.barrier()
    yield
    if is_rank_zero() and dist.is_initialized():
        dist.barrier()


@contextlib.contextmanager
def init_distributed(strategy: Strategy, device: torch.device) -> Iterator[torch.device]:
    """Join the process group that torchrun started and yield the device of this process. Only rank
    zero prints.

    ValueError if strategy and torchrun do not go together.
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
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
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
    """Model and loss function as one module: DDP and FSDP hook the outermost forward, so the loss
    must be computed inside it.
    """

    def __init__(self, model: GPTModel, loss_fn):
        super().__init__()
        self.model, self.loss_fn = model, loss_fn

    def forward(self, *batch: Tensor) -> tuple[Tensor, Tensor]:
        return self.loss_fn(self.model, batch)


def full_tensor(tensor: Tensor) -> Tensor:
    """Gather a sharded tensor; any other tensor is returned as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """Shard `tensor` as `parameter` is if it has its shape; otherwise return it as it is."""
    if isinstance(parameter, DTensor) and tensor.shape == parameter.shape:
        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
    return tensor


def parallelize(model: GPTModel, loss_fn, strategy: Strategy):
    """Return (module, loss function) for `train`.

    fsdp replaces the parameters of `model` by their shards, so make optimizers afterwards.
    """
    if strategy == "single":
        return model, loss_fn
    module: nn.Module = LossModule(model, loss_fn)
    if strategy == "fsdp":
        for block in model.trf_blocks:
            fully_shard(block)
        fully_shard(module)
    else:
        module = DistributedDataParallel(module)
    return module, lambda module, batch: module(*batch)
