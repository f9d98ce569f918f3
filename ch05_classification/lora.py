"""LoRA: freeze a weight matrix and learn a low-rank update of it (Hu et al. 2021, section 4.1).

y = W x + (alpha / rank) B (A x). B starts at zero, so the first outputs are the base model's. The
base layer may store its weights in any format, quantized ones included, because LoRA only calls its
forward. The names are the book's (appendix E).
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ch01_text.saving import replacing

# Every matrix of a block: qkv and out_proj in attention, layers.0 and layers.2 in a GELU
# feed-forward, gate_up (which ends in "up") and down in SwiGLU.
TARGETS = ("qkv", "out_proj", "layers.0", "layers.2", "gate", "up", "down")


class LoRALayer(nn.Module):
    """(..., in) -> (..., out): the update alone."""

    def __init__(self, in_dim: int, out_dim: int, rank: int, alpha: float):
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank must be at least 1, not {rank}")
        # One of the two is zero, so that the update is. If both were, neither would ever get a
        # gradient.
        self.A = nn.Parameter(torch.empty(rank, in_dim))
        self.B = nn.Parameter(torch.zeros(out_dim, rank))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))  # as in nn.Linear: +- 1 / sqrt(in_dim)
        # Divided by the rank, so that the learning rate need not be tuned anew for every rank.
        self.scale = alpha / rank

    def weight(self) -> Tensor:
        """The update of the base layer's matrix, (out, in)."""
        return self.scale * (self.B @ self.A)

    def forward(self, x: Tensor) -> Tensor:
        # (..., in) -> (..., rank) -> (..., out). B A is as large as the base matrix and is not
        # formed.
        return self.scale * nn.functional.linear(nn.functional.linear(x, self.A), self.B)


class LinearWithLoRA(nn.Module):
    """A frozen layer and its update.

    `linear` is an `nn.Linear`, or another layer with `in_features` and `out_features`.
    """

    def __init__(self, linear: Any, rank: int, alpha: float):
        super().__init__()
        self.linear = linear.requires_grad_(False)  # no gradient, no optimizer state
        self.lora = LoRALayer(linear.in_features, linear.out_features, rank, alpha)
        self.base: Tensor | None = None  # the matrix before `merge`

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        # once merged, `linear` alone includes the update
        return y if self.base is not None else y + self.lora(x).to(y.dtype)

    @torch.no_grad()
    def merge(self) -> None:
        """Add the update to the base matrix; ValueError if that is quantized."""
        if not isinstance(self.linear, nn.Linear):
            raise ValueError(
                f"a {type(self.linear).__name__} cannot be merged; keep the LoRA layers separate"
            )
        if self.base is None:  # a second merge would add the update twice
            self.base = self.linear.weight.clone()
            self.linear.weight += self.lora.weight().to(self.base.dtype)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Restore the base matrix exactly; subtracting the update would leave rounding errors."""
        if self.base is not None:
            self.linear.weight.copy_(self.base)
            self.base = None


def lora_layers(model: nn.Module) -> Iterator[tuple[str, LinearWithLoRA]]:
    """All LoRA layers with their names."""
    return (
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, LinearWithLoRA)
    )


def replace_linear_with_lora(
    model: nn.Module, rank: int, alpha: float, targets: Sequence[str] = TARGETS
) -> int:
    """Freeze `model` and add LoRA to every linear layer whose name ends in one of `targets`.

    Returns the number of such layers; ValueError if there are none.
    """
    model.requires_grad_(False)
    # A list, because the loop below changes the modules that `named_modules` walks through.
    # `in_features` marks a linear layer, a quantized one too, which need not be an nn.Linear.
    found = [
        (name, module)
        for name, module in model.named_modules()
        if name.endswith(tuple(targets)) and hasattr(module, "in_features")
    ]
    if not found:
        raise ValueError(f"no layer's name ends in {', '.join(targets)}")
    for name, module in found:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, LinearWithLoRA(module, rank, alpha))
    return len(found)


def merge_lora(model: nn.Module) -> None:
    """Replace every LoRA layer by a plain one with the merged matrix; outputs stay the same up to
    rounding.
    """
    for name, module in list(lora_layers(model)):  # a list: the loop changes the model
        module.merge()
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, module.linear)


def adapter(model: nn.Module) -> dict[str, Tensor]:
    """The trainable parameters by name: the LoRA matrices, and a new head, for example."""
    return {
        # shares the parameter's memory, so that `load_adapter` can copy into it
        name: parameter.detach()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def save_adapter(model: nn.Module, path: str | Path) -> None:
    """Write only the adapter, a small fraction of the model, as safetensors."""
    with replacing(path) as new:
        save_file({name: tensor.contiguous().cpu() for name, tensor in adapter(model).items()}, new)


@torch.no_grad()
def load_adapter(model: nn.Module, path: str | Path) -> None:
    """Load a saved adapter into a model with the same LoRA layers; ValueError if they differ."""
    saved, ours = load_file(path), adapter(model)
    # before anything is copied, so that a mismatch leaves the model as it was
    if saved.keys() != ours.keys() or any(saved[name].shape != ours[name].shape for name in saved):
        raise ValueError(
            f"{path} belongs to other layers or another rank; build the model with the settings"
            " that the adapter was trained with"
        )
    for name, tensor in saved.items():
        ours[name].copy_(tensor)
