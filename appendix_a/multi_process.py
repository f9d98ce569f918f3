"""The same training on several processes, started by torchrun: DDP and a sketch of FSDP.

Every process draws the same batches and takes its part of each. DDP (Li et al. 2020) averages the
gradients over the processes; FSDP (Zhao et al. 2023) also cuts weights, gradients and the
optimizer's memory into parts. Joining the processes is chapter 4's `processes`; here is only what
differs for a network of linear layers.
"""

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Sampler

from appendix_a.network import NeuralNetwork
from ch04_pretraining.parallel import (
    Strategy,
    all_reduce_mean,
    full_tensor,
    get_rank_and_world_size,
)


def ddp_setup(
    rank: int, world_size: int, address: str = "tcp://127.0.0.1:29500", backend: str | None = None
) -> None:
    """The book's name: make this process number `rank` of `world_size`; all must name the same
    address.

    torchrun does the same through the environment, and finds a free port. The backend is nccl where
    there is a GPU, else gloo.
    """
    backend = backend or ("nccl" if torch.cuda.is_available() else "gloo")
    dist.init_process_group(backend, init_method=address, rank=rank, world_size=world_size)


class BatchPart(Sampler[list[int]]):
    """Of every batch of row numbers, the ones that this process works on: every n-th row, beginning
    with its own.

    >>> list(BatchPart([[5, 0, 3], [4, 1]], rank=1, world_size=2))
    [[0], [1]]
    """

    def __init__(self, batches, rank: int, world_size: int):
        self.batches, self.rank, self.world_size = batches, rank, world_size

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches:
            yield batch[self.rank :: self.world_size]

    def __len__(self) -> int:
        return len(self.batches)


def share_batches(loader: DataLoader) -> DataLoader:
    """A loader of this process's part of every batch. A process on its own gets everything.

    ValueError where a batch has fewer rows than there are processes.
    """
    rank, world_size = get_rank_and_world_size()
    smallest = min(
        len(loader.dataset) % loader.batch_size or loader.batch_size, len(loader.dataset)
    )
    if smallest < world_size:
        raise ValueError(
            f"{world_size} processes cannot share a batch of {smallest}; choose --rows and "
            "--batch-size such that the last batch, too, has a row for each"
        )
    return DataLoader(
        loader.dataset, batch_sampler=BatchPart(loader.batch_sampler, rank, world_size)
    )


def shared_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of this process's rows, such that the average over processes is the mean over
    all rows.

    The mean of the processes' means would be another number wherever their parts are of different
    size.
    """
    rows = torch.tensor(float(len(labels)), device=logits.device)
    return F.cross_entropy(logits, labels, reduction="sum") / all_reduce_mean(rows)


def distribute(network: NeuralNetwork, strategy: Strategy) -> nn.Module:
    """What to call in the place of `network`. fsdp replaces its parameters, so make the
    optimizer afterwards.
    """
    if strategy == "ddp":
        return DistributedDataParallel(network)
    if strategy == "fsdp":
        for layer in network.layers:
            if isinstance(layer, nn.Linear):
                fully_shard(layer)
        fully_shard(network)
    return network


def plain_copy(network: NeuralNetwork) -> NeuralNetwork:
    """The whole network on the CPU, in eval mode, whoever holds its parts; every process has to
    call it.
    """
    copy = NeuralNetwork(network.sizes[0], network.sizes[-1], network.sizes[1:-1])
    copy.load_state_dict(
        {name: full_tensor(tensor).cpu() for name, tensor in network.state_dict().items()}
    )
    return copy.eval()
