"""Training speed of our GPT beside chapter 3's on PyTorch: one shape, float32, one thread each,
in turn.
"""

import time
from collections.abc import Callable

import numpy as np

from appendix_b.gpt import GPT, Shape
from appendix_b.losses import cross_entropy
from appendix_b.optimizers import AdamW, clip_gradients

SHAPE = Shape(vocab_size=256, context_length=128, width=128, heads=4, layers=3)
BATCH = 16


def our_step(seed: int) -> Callable[[], float]:
    """A function that does one training step and returns the loss."""
    rng = np.random.default_rng(seed)
    model = GPT(SHAPE, rng)
    optimizer = AdamW(model.parameters(), 1e-3, weight_decay=0.1)
    ids = rng.integers(0, SHAPE.vocab_size, (BATCH, SHAPE.context_length + 1))

    def step() -> float:
        loss = cross_entropy(model(ids[:, :-1]), ids[:, 1:])
        loss.backward()
        clip_gradients(optimizer.parameters, 1.0)
        optimizer.step()
        return loss.item()

    return step


def torch_step(seed: int) -> Callable[[], float]:
    """The same with chapter 3's model, PyTorch's loss and its fused optimizer."""
    import torch
    from torch.nn import functional as F

    from ch03_gpt import GPTConfig, GPTModel

    torch.manual_seed(seed)
    model = GPTModel(
        GPTConfig(
            SHAPE.vocab_size,
            SHAPE.context_length,
            SHAPE.width,
            SHAPE.heads,
            SHAPE.layers,
            tie_embeddings=True,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.1, fused=True)
    ids = torch.randint(0, SHAPE.vocab_size, (BATCH, SHAPE.context_length + 1))

    def step() -> float:
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def compare_speed(seed: int, rounds: int = 5, steps: int = 4) -> dict:
    """Tokens a second of both, the best of `rounds` in which they take turns, and their ratio."""
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    best = {"ours": 0.0, "torch": 0.0}
    try:
        torch.set_num_threads(1)
        with threadpool_limits(1):
            made = {"ours": our_step(seed), "torch": torch_step(seed)}
            for step in made.values():
                step()
            for _ in range(rounds):
                for name, step in made.items():
                    began = time.perf_counter()
                    for _ in range(steps):
                        step()
                    rate = steps * BATCH * SHAPE.context_length / (time.perf_counter() - began)
                    best[name] = max(best[name], rate)
    finally:
        torch.set_num_threads(threads)
    ratio = best["ours"] / best["torch"]
    print(
        f"one thread, float32: ours {best['ours']:,.0f} tokens/s, PyTorch {best['torch']:,.0f}:"
        f" {ratio:.0%} of it"
    )
    return {f"{name}_tokens_per_s": rate for name, rate in best.items()} | {"ratio": ratio}
