"""The same training on several processes, started by torchrun: DDP and a sketch of FSDP.

All processes draw the same batches, and each works on its part of every batch. DDP (Li et al. 2020)
averages the gradients over the processes; FSDP (Zhao et al. 2023) also splits weights, gradients
and optimizer state among them. Chapter 4's parallel.py joins the processes; this module adds what
is particular to a network of linear layers.
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
    """Join a group of `world_size` processes as number `rank`; the name is the book's.

    All processes must give the same address. torchrun passes the same information in the
    environment and finds a free port. The backend is nccl on a machine with a GPU, otherwise gloo.
    """
    backend = backend or ("nccl" if torch.cuda.is_available() else "gloo")
    dist.init_process_group(backend, init_method=address, rank=rank, world_size=world_size)


class RankSampler(Sampler[list[int]]):
    """This process's part of every batch of row numbers: every n-th row, starting with its rank.

    >>> list(RankSampler([[5, 0, 3], [4, 1]], rank=1, world_size=2))
    [[0], [1]]
    """

    def __init__(self, batches, rank: int, world_size: int):
        self.batches, self.rank, self.world_size = batches, rank, world_size

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches:
            yield batch[self.rank :: self.world_size]

    def __len__(self) -> int:
        return len(self.batches)


def shard_batches(loader: DataLoader) -> DataLoader:
    """A loader of this process's part of every batch; a single process gets all of it.

    ValueError if a batch has fewer rows than there are processes.
    """
    rank, world_size = get_rank_and_world_size()
    n, batch_size = len(loader.dataset), loader.batch_size  # type: ignore[arg-type]  # has a length
    assert batch_size is not None  # a loader of batches of one size
    smallest = min(n % batch_size or batch_size, n)
    if smallest < world_size:
        raise ValueError(
            f"{world_size} processes cannot share a batch of {smallest}; choose --points and"
            " --batch-size so that the last batch, too, has a point for each"
        )
    return DataLoader(
        loader.dataset, batch_sampler=RankSampler(loader.batch_sampler, rank, world_size)
    )


def global_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy of this process's rows, scaled so that its average over the processes is
    the mean over all rows.

    The mean of the processes' means would be a different number if their parts differ in size.
    """
    rows = torch.tensor(float(len(labels)), device=logits.device)
    return F.cross_entropy(logits, labels, reduction="sum") / all_reduce_mean(rows)


def distribute(network: NeuralNetwork, strategy: Strategy) -> nn.Module:
    """The module to call instead of `network`. fsdp replaces the parameters, so create the
    optimizer afterwards.
    """
    if strategy == "ddp":
        return DistributedDataParallel(network)
    if strategy == "fsdp":
        # Layer by layer, so that only one layer's weights are gathered at a time.
        for layer in network.layers:
            if isinstance(layer, nn.Linear):
                fully_shard(layer)
        fully_shard(network)
    return network


def unsharded_copy(network: NeuralNetwork) -> NeuralNetwork:
    """A copy of the full network on the CPU, in eval mode, gathered from all shards; every process
    has to call it.
    """
    copy = NeuralNetwork(network.sizes[0], network.sizes[-1], network.sizes[1:-1])
    copy.load_state_dict(
        {name: full_tensor(tensor).cpu() for name, tensor in network.state_dict().items()}
    )
    return copy.eval()
