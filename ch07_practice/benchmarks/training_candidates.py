"""The candidates of the training benchmark: our model and loop, and reference models in the usual
loop.
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
from ch07_practice.benchmarks.benchmark_runner import installed
from ch07_practice.benchmarks.nano_gpt import nano_gpt
from ch07_practice.benchmarks.reference_models import book_gpt, transformers_gpt2

LR = 1e-3
Step = Callable[[], Tensor]


def _our_step(model: GPTModel, batches: Iterator, precision: Precision, optimizer: str) -> Step:
    disable_malloc_trim()
    lr = {"lr": LR} if optimizer == "adamw" else {}
    optimizers = make_optimizers(model, optimizer, **lr, dtype=precision.dtype)
    model.train()

    def step() -> Tensor:
        sums, _ = train_step(model, batches, next_token_loss, optimizers, precision)
        return sums[0] / sums[1]

    return step


def _reference_step(model: nn.Module, batches: Iterator, precision: Precision) -> Step:
    """The usual training step, as in nanoGPT: all logits, mean loss, gradient clipping, and fused
    AdamW with weight decay on matrices only.
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
class Candidate:
    name: str
    # makes the reference model from ours; None: ours itself
    reference: Callable[[GPTModel], nn.Module] | None = None
    package: str | None = None  # required package
    dtype: str = "auto"
    optimizer: str = "adamw"
    default_shape: bool = False  # as our laptop presets: RoPE, no biases
    keep_memory: bool = False  # our allocator setting for a reference model

    def build(self, config: GPTConfig, batches: Iterator, device: torch.device) -> Step:
        """A function that performs one training step and returns its mean loss."""
        torch.manual_seed(0)
        if self.default_shape:
            config = replace(config, position="rope", bias=False, qkv_bias=False)
        ours, precision = GPTModel(config), pick_precision(device, self.dtype)
        if self.reference is None:
            return _our_step(ours.to(device), batches, precision, self.optimizer)
        if self.keep_memory:
            disable_malloc_trim()
        return _reference_step(self.reference(ours).to(device), batches, precision)


_TRANSFORMERS = partial(transformers_gpt2, use_cache=False)
_FAST = partial(book_gpt, variant="fast")
CANDIDATES = {
    candidate.name: candidate
    for candidate in (
        Candidate("ours"),
        Candidate("ours, default shape and Muon", optimizer="muon", default_shape=True),
        Candidate("nanoGPT-style", nano_gpt),
        Candidate("nanoGPT-style, memory kept", nano_gpt, keep_memory=True),
        Candidate("transformers, float32", _TRANSFORMERS, "transformers", "float32"),
        Candidate("transformers", _TRANSFORMERS, "transformers"),
        Candidate("transformers, memory kept", _TRANSFORMERS, "transformers", keep_memory=True),
        Candidate("llms_from_scratch", book_gpt, "llms_from_scratch"),
        Candidate("llms_from_scratch, fast", _FAST, "llms_from_scratch"),
        Candidate(
            "llms_from_scratch, fast, memory kept", _FAST, "llms_from_scratch", keep_memory=True
        ),
    )
}


def available_candidates(candidates: list[Candidate], device: torch.device) -> list[Candidate]:
    """The installed candidates, without explicit float32 where the others compute in float32
    anyway.
    """
    all_in_float32 = pick_precision(device).dtype == torch.float32
    return [c for c in installed(candidates) if not (all_in_float32 and c.dtype == "float32")]
