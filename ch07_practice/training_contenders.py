"""Who takes part in the training benchmark: our model and loop, and the peers' models in the
usual loop.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch03_gpt import GPTConfig, GPTModel, Precision, pick_precision
from ch04_pretraining.allocator import disable_malloc_trim
from ch04_pretraining.loss import next_token_loss
from ch04_pretraining.optimizer import make_optimizers
from ch04_pretraining.training import train_step
from ch07_practice.contest import installed
from ch07_practice.nano_gpt import nano_gpt
from ch07_practice.peers import book_gpt, transformers_gpt2

LR = 1e-3
Step = Callable[[], Tensor]


def _ours(model: GPTModel, batches: Iterator, precision: Precision, optimizer: str) -> Step:
    disable_malloc_trim()
    lr = {"lr": LR} if optimizer == "adamw" else {}
    optimizers = make_optimizers(model, optimizer, **lr, dtype=precision.dtype)
    model.train()

    def step() -> Tensor:
        loss, count, _ = train_step(model, batches, next_token_loss, optimizers, 1, 1.0, precision)[
            0
        ]
        return loss / count

    return step


def _theirs(model: nn.Module, batches: Iterator, precision: Precision) -> Step:
    """The usual loop, nanoGPT's: all logits, their mean loss, clipping, fused AdamW that decays
    matrices only.
    """
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.95), fused=True)
    model.train()

    def step() -> Tensor:
        inputs, targets = next(batches)
        with precision.autocast():
            output = model(inputs)
            logits = getattr(output, "logits", output)  # (B, T, V)
            loss = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


@dataclass(frozen=True)
class Contender:
    name: str
    # makes another model of our weights; None: ours
    peer: Callable[[GPTModel], nn.Module] | None = None
    package: str | None = None  # what must be installed
    dtype: str = "auto"
    optimizer: str = "adamw"
    default_shape: bool = False  # of our laptop presets: RoPE, no biases
    keep_memory: bool = False  # our allocator's setting for a peer, too

    def build(self, config: GPTConfig, batches: Iterator, device: torch.device) -> Step:
        """A function that does one training step and returns its mean loss."""
        torch.manual_seed(0)
        if self.default_shape:
            config = replace(config, position="rope", bias=False, qkv_bias=False)
        ours, precision = GPTModel(config), pick_precision(device, self.dtype)
        if self.peer is None:
            return _ours(ours.to(device), batches, precision, self.optimizer)
        if self.keep_memory:
            disable_malloc_trim()
        return _theirs(self.peer(ours).to(device), batches, precision)


_TRANSFORMERS = partial(transformers_gpt2, use_cache=False)
_FAST = partial(book_gpt, variant="fast")
CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("ours"),
        Contender("ours, default shape and Muon", optimizer="muon", default_shape=True),
        Contender("nanoGPT-style", nano_gpt),
        Contender("nanoGPT-style, memory kept", nano_gpt, keep_memory=True),
        Contender("transformers, float32", _TRANSFORMERS, "transformers", "float32"),
        Contender("transformers", _TRANSFORMERS, "transformers"),
        Contender("transformers, memory kept", _TRANSFORMERS, "transformers", keep_memory=True),
        Contender("llms_from_scratch", book_gpt, "llms_from_scratch"),
        Contender("llms_from_scratch, fast", _FAST, "llms_from_scratch"),
        Contender(
            "llms_from_scratch, fast, memory kept", _FAST, "llms_from_scratch", keep_memory=True
        ),
    )
}


def take_part(contenders: list[Contender], device: torch.device) -> list[Contender]:
    """Those that are installed; float32 by name only where the others compute in something else."""
    all_in_float32 = pick_precision(device).dtype == torch.float32
    return [c for c in installed(contenders) if not (all_in_float32 and c.dtype == "float32")]
