"""Appendix A: train the book's small network, alone or in several processes, and see where its
time goes.
"""

import time
from pathlib import Path
from typing import Literal

import torch
from torch.nn import functional as F

from appendix_a import (
    NeuralNetwork,
    compute_accuracy,
    descend,
    distribute,
    load_network,
    make_optimizer,
    missing_compiler,
    plain_copy,
    prepare_dataset,
    profile_operations,
    save_network,
    share_batches,
    shared_cross_entropy,
    train,
)
from appendix_a.landscape import RATES
from appendix_a.plots import draw_paths, draw_profile, draw_training
from appendix_a.training import OptimizerName
from ch01_text.run import chapter_folder, command_line, write_metrics
from ch03_gpt import Precision, pick_device, pick_precision
from ch04_pretraining.parallel import (
    Strategy,
    all_reduce_mean,
    get_world_size,
    init_distributed,
    is_rank_zero,
)

CHAPTER = "appendix_a"


def profile_training(network: NeuralNetwork, loader, lr: float):
    """Where a step of training spends its time, on the CPU."""
    features, labels = next(iter(loader))
    optimizer = make_optimizer("sgd", network.parameters(), lr)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(features), labels).backward()
        optimizer.step()

    return profile_operations(step)


def learn(
    settings: dict, precision: Precision, strategy: Strategy, compile: bool, folder: Path
) -> dict:
    """What each process does; returns the metrics. The first one saves first, then draws."""
    torch.manual_seed(settings["seed"])  # the same weights in every process
    train_loader, test_loader = prepare_dataset(
        settings["rows"], settings["batch_size"], settings["seed"]
    )
    loader = share_batches(train_loader)
    network = NeuralNetwork(2, 2).to(precision.device)
    module = distribute(network, strategy)
    if compile:
        module.compile()
    optimizer = make_optimizer(settings["optimizer"], module.parameters(), settings["lr"])
    began = time.perf_counter()
    losses = train(module, loader, optimizer, settings["epochs"], shared_cross_entropy, precision)
    losses = all_reduce_mean(losses).cpu()
    seconds = time.perf_counter() - began
    learned = plain_copy(network)
    accuracy = compute_accuracy(learned, test_loader)
    metrics = {
        "accuracy": accuracy,
        "train_accuracy": compute_accuracy(learned, train_loader),
        "first_loss": losses[0].item(),
        "loss": losses[-len(loader) :].mean().item(),
        "steps": len(losses),
        "rows_per_s": settings["epochs"] * settings["rows"] / seconds,
        "seconds": seconds,
        "processes": get_world_size(),
        "device": str(precision.device),
        **settings,
    }
    if is_rank_zero():
        path = chapter_folder(folder.parent, folder.name) / "network.safetensors"
        save_network(learned, path)
        features, labels = test_loader.dataset.features, test_loader.dataset.labels
        title = f"{accuracy:.1%} of unseen points"
        profile = profile_training(load_network(path), train_loader, settings["lr"])
        metrics["profile"] = profile.head(10).to_dict("records")
        write_metrics(folder, metrics)
        draw_training(losses, load_network(path), features, labels, title).savefig(
            folder / "training.png", dpi=110
        )
        draw_profile({"a step of training": profile}).savefig(folder / "profile.png", dpi=110)
    return metrics


def main(
    rows: int = 1000,
    epochs: int = 60,
    batch_size: int = 32,
    optimizer: OptimizerName = "adamw",
    lr: float = 0.01,
    dtype: Literal["auto", "float32", "bfloat16"] = "float32",
    compile: bool = False,
    strategy: Strategy = "single",
    run: Path = Path("runs/default"),
    seed: int = 1337,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Train the book's small network to tell two spirals apart, draw what it decides, and profile a
    step.

    Args:
        rows: Points to learn from.
        epochs: Passes over them.
        batch_size: Points in a batch, of all processes together.
        optimizer: sgd, momentum (SGD with it), adam or adamw.
        lr: Learning rate.
        dtype: Number format of matrix products; auto takes bfloat16 where the device is good at it.
        compile: Compile the network with torch.compile; needs a C++ compiler.
        strategy: How the processes that torchrun started share the work: ddp (whole copies) or fsdp
            (parts).
        run: Folder of the run; results go to RUN/appendix_a.
        seed: Of points, weights and batches.
        device: Where to compute; auto prefers a GPU.
    """
    settings = {
        "rows": rows,
        "epochs": epochs,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "lr": lr,
        "dtype": dtype,
        "seed": seed,
    }
    for name, value in settings.items():
        if name in ("rows", "epochs", "batch_size", "lr") and value <= 0:
            raise ValueError(f"--{name.replace('_', '-')} must be positive, not {value}")
    if compile and (reason := missing_compiler()):
        raise ValueError(f"--compile cannot work: {reason}")
    folder = Path(run) / CHAPTER
    with init_distributed(strategy, pick_device(device)) as where:
        metrics = learn(settings, pick_precision(where, dtype), strategy, compile, folder)
        paths = {name: descend(name, rate, 60) for name, rate in RATES.items()}
        if is_rank_zero():
            draw_paths(paths).savefig(folder / "optimizer_paths.png", dpi=110)
        for name in ("accuracy", "train_accuracy", "loss", "steps", "rows_per_s", "processes"):
            print(f"{name.replace('_', ' '):<16}{metrics[name]:,.6g}")
        print(f"{'saved in':<16}{folder}")
    return metrics


if __name__ == "__main__":
    command_line(main)
