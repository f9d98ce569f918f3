"""Saving a network for others, and the full state of a run for resuming it.

A network is a safetensors file that includes its layer sizes. The state of a run adds everything
else that determines the next step: the optimizer state and the random generators. Loading either
executes no code (no pickled objects).
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.optim import Optimizer

from appendix_a.network import NeuralNetwork
from ch01_text.saving import replacing


def save_network(network: NeuralNetwork, path: str | Path) -> None:
    """Write the weights and layer sizes to `path`."""
    with replacing(path) as new:
        save_file(network.state_dict(), new, metadata={"sizes": json.dumps(network.sizes)})


def load_network(path: str | Path) -> NeuralNetwork:
    """Read what `save_network` wrote, on the CPU, in eval mode; ValueError if the file holds no
    such network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            sizes = json.loads(file.metadata()["sizes"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} holds no network of appendix A ({error}); train one first"
        ) from error
    network = NeuralNetwork(sizes[0], sizes[-1], tuple(sizes[1:-1]))
    network.load_state_dict(state)
    return network.eval()


def save_run(
    path: str | Path, network: NeuralNetwork, optimizer: Optimizer, batches: torch.Generator
) -> None:
    """Write everything that the next step depends on; `batches` is the generator that shuffles."""
    with replacing(path) as new:
        torch.save(
            {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "batches": batches.get_state(),
                "default": torch.get_rng_state(),
            },
            new,
        )


def load_run(
    path: str | Path, network: NeuralNetwork, optimizer: Optimizer, batches: torch.Generator
) -> None:
    """Restore, in place, what `save_run` wrote: training continues as if it had not been
    interrupted.

    The file may come from another device: its tensors are read on the CPU and then copied to where
    they belong.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    batches.set_state(state["batches"])
    torch.set_rng_state(state["default"])
