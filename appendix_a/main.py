"""Appendix A: train the book's small network, in one process or several, and profile a step."""

import time
from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from tyro.conf import arg

from appendix_a import (
    NeuralNetwork,
    compute_accuracy,
    distribute,
    global_cross_entropy,
    load_network,
    make_optimizer,
    missing_compiler,
    optimizer_path,
    prepare_dataset,
    profile_operations,
    save_network,
    shard_batches,
    train,
    unsharded_copy,
)
from appendix_a.landscape import LEARNING_RATES
from appendix_a.plots import draw_paths, draw_profile, draw_training
from appendix_a.toy_data import ToyDataset
from appendix_a.training import OptimizerName
from ch01_text.run import chapter_folder, check_positive, command_line, write_metrics
from ch03_gpt import Precision, pick_device, pick_precision
from ch04_pretraining.parallel import (
    Strategy,
    all_reduce_mean,
    get_world_size,
    init_distributed,
    is_rank_zero,
)

CHAPTER = "appendix_a"


@dataclass(frozen=True)
class TrainConfig:
    """How the network is trained."""

    # Number of training points.
    points: int = 1000
    # Passes over the training points.
    epochs: int = 60
    # Points per step, over all processes together.
    batch_size: int = 32
    # sgd, momentum (SGD with momentum), adam or adamw.
    optimizer: OptimizerName = "adamw"
    # Learning rate.
    lr: float = 0.01

    _: KW_ONLY

    # Number format of matrix products; auto takes bfloat16 where the device is good at it.
    dtype: Literal["auto", "float32", "bfloat16"] = "float32"
    # Compile the network with torch.compile; needs a C++ compiler.
    compile: bool = False
    # How the processes that torchrun started share the work: ddp (full copies) or fsdp (shards).
    strategy: Strategy = "single"

    def __post_init__(self):
        check_positive(self, "points", "epochs", "batch_size", "lr")
        if self.compile and (reason := missing_compiler()):
            raise ValueError(f"--compile cannot work: {reason}")


def profile_step(network: NeuralNetwork, loader, lr: float):
    """The operations of one training step on the CPU, by their share of its time."""
    features, labels = next(iter(loader))
    optimizer = make_optimizer("sgd", network.parameters(), lr)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(features), labels).backward()
        optimizer.step()

    return profile_operations(step)


def train_and_save(config: TrainConfig, precision: Precision, seed: int, folder: Path) -> dict:
    """Train in this process, together with the others; the first one saves and draws. Returns the
    metrics.
    """
    torch.manual_seed(seed)  # the same initial weights in every process
    train_loader, test_loader = prepare_dataset(config.points, config.batch_size, seed)
    loader = shard_batches(train_loader)
    network = NeuralNetwork(2, 2).to(precision.device)
    module = distribute(network, config.strategy)
    if config.compile:
        module.compile()
    optimizer = make_optimizer(config.optimizer, module.parameters(), config.lr)
    started = time.perf_counter()
    losses = train(module, loader, optimizer, config.epochs, global_cross_entropy, precision)
    losses = all_reduce_mean(losses).cpu()
    seconds = time.perf_counter() - started
    trained = unsharded_copy(network)
    accuracy = compute_accuracy(trained, test_loader)
    metrics = {
        "accuracy": accuracy,
        "train_accuracy": compute_accuracy(trained, train_loader),
        "first_loss": losses[0].item(),
        "loss": losses[-len(loader) :].mean().item(),
        "steps": len(losses),
        "points_per_s": config.epochs * config.points / seconds,
        "seconds": seconds,
        "processes": get_world_size(),
        "device": str(precision.device),
        "seed": seed,
        **asdict(config),
    }
    if is_rank_zero():
        path = chapter_folder(folder.parent, folder.name) / "network.safetensors"
        save_network(trained, path)
        profile = profile_step(load_network(path), train_loader, config.lr)
        metrics["profile"] = profile.head(10).to_dict("records")
        write_metrics(folder, metrics)
        test_set, title = test_loader.dataset, f"test accuracy {accuracy:.1%}"
        assert isinstance(test_set, ToyDataset)
        draw_training(losses, trained, test_set.features, test_set.labels, title).savefig(
            folder / "training.png", dpi=110
        )
        draw_profile({"one training step": profile}).savefig(folder / "profile.png", dpi=110)
    return metrics


def main(
    config: Annotated[TrainConfig, arg(name="")] = TrainConfig(),
    *,
    run: Path = Path("runs/default"),
    seed: int = 1337,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Train the book's small network to separate two spirals, draw its decision boundary, and
    profile a step.

    Args:
        config: How the network is trained.
        run: Folder of the run; results go to RUN/appendix_a.
        seed: Seed of points, weights and batches.
        device: Where to compute; auto prefers a GPU.
    """
    folder = Path(run) / CHAPTER
    with init_distributed(config.strategy, pick_device(device)) as where:
        metrics = train_and_save(config, pick_precision(where, config.dtype), seed, folder)
        paths: dict[str, Tensor] = {
            name: optimizer_path(name, lr, 60) for name, lr in LEARNING_RATES.items()
        }
        if is_rank_zero():
            draw_paths(paths).savefig(folder / "optimizer_paths.png", dpi=110)
        for name in ("accuracy", "train_accuracy", "loss", "steps", "points_per_s", "processes"):
            print(f"{name.replace('_', ' '):<16}{metrics[name]:,.6g}")
        print(f"{'saved in':<16}{folder}")
    return metrics


if __name__ == "__main__":
    command_line(main)
