"""AdamW and Muon, set up for a GPT.

AdamW (Loshchilov & Hutter 2019) decays matrices and embeddings but not biases and norms. Muon
(`muon.py`) updates the matrices inside the blocks; embeddings, head and vectors stay with AdamW, as
its authors advise.
"""

import torch
from torch import nn
from torch.optim import Optimizer

from ch03_gpt import GPTModel
from ch04_pretraining.muon import Muon

OPTIMIZERS = ("muon", "adamw")


def _adamw(
    decayed: list[nn.Parameter], others: list[nn.Parameter], lr: float, weight_decay: float
) -> Optimizer:
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    # beta2 = 0.95 as in GPT-3 (Brown et al. 2020) averages squared gradients over about 20 steps,
    # PyTorch's 0.999 over 1,000: too slow for a short run or a changing gradient. `fused` updates
    # all parameters in one kernel.
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=lr, betas=(0.9, 0.95), fused=True
    )


def make_optimizers(
    model: nn.Module,
    name: str = "muon",
    lr: float = 3e-3,
    muon_lr: float = 2e-2,
    weight_decay: float = 0.1,
    dtype: torch.dtype = torch.float32,
) -> list[Optimizer]:
    """Return the optimizers that together update every trainable parameter of `model` exactly once.

    `lr` is AdamW's peak learning rate, `muon_lr` that of Muon. With "muon" the matrices of the
    transformer blocks go to Muon, which computes in `dtype`, and everything else to AdamW.
    ValueError if `name` is unknown.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}; choose {' or '.join(OPTIMIZERS)}")
    trainable = [p for p in model.parameters() if p.requires_grad]
    vectors = [p for p in trainable if p.dim() < 2]  # biases and scales of norms
    matrices = [p for p in trainable if p.dim() >= 2]
    if name == "adamw":
        return [_adamw(matrices, vectors, lr, weight_decay)]
    blocks = model.trf_blocks if isinstance(model, GPTModel) else model
    # A fused matrix (qkv, gate_up) counts as one here. The weights of the short convolution are a
    # (K - 1, C) matrix, so Muon takes them, too.
    hidden = [p for p in blocks.parameters() if p.requires_grad and p.dim() == 2]
    if not hidden:
        return [_adamw(matrices, vectors, lr, weight_decay)]
    in_muon = {id(p) for p in hidden}  # `p in hidden` would compare elements
    rest = [p for p in matrices if id(p) not in in_muon]
    return [
        Muon(hidden, lr=muon_lr, weight_decay=weight_decay, dtype=dtype),
        _adamw(rest, vectors, lr, weight_decay),
    ]


def set_learning_rate(optimizers: list[Optimizer], multiplier: float) -> None:
    """Set every group's learning rate to `multiplier` times its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            # The first call keeps the peak in the group, and so in checkpoints. Without it the
            # multipliers of successive steps would multiply each other.
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * multiplier
