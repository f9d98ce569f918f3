"""Training speed of our GPT compared with chapter 3's on PyTorch: same shape, float32, one thread,
the two taking turns.
"""

import time
from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from appendix_b.gpt import GPT, GPTConfig
from appendix_b.losses import cross_entropy
from appendix_b.optimizers import AdamW, clip_grad_norm

CONFIG = GPTConfig(vocab_size=256, context_length=128, emb_dim=128, n_heads=4, n_layers=3)
BATCH_SIZE = 16


def numpy_step(seed: int) -> Callable[[], float]:
    """A function that performs one training step of our GPT and returns the loss."""
    rng = np.random.default_rng(seed)
    model = GPT(CONFIG, rng)
    optimizer = AdamW(model.parameters(), 1e-3, weight_decay=0.1)
    ids = rng.integers(0, CONFIG.vocab_size, (BATCH_SIZE, CONFIG.context_length + 1))

    def step() -> float:
        loss = cross_entropy(model(ids[:, :-1]), ids[:, 1:])
        loss.backward()
        clip_grad_norm(optimizer.parameters, 1.0)
        optimizer.step()
        return loss.item()

    return step


def torch_step(seed: int) -> Callable[[], float]:
    """The same step with chapter 3's model, PyTorch's loss and its fused optimizer."""
    import torch
    from torch.nn import functional as F

    from ch03_gpt import GPTConfig as TorchGPTConfig
    from ch03_gpt import GPTModel

    torch.manual_seed(seed)
    model = GPTModel(TorchGPTConfig(**asdict(CONFIG), tie_embeddings=True))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.1, fused=True)
    ids = torch.randint(0, CONFIG.vocab_size, (BATCH_SIZE, CONFIG.context_length + 1))

    def step() -> float:
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def compare_speed(seed: int, rounds: int = 5, steps: int = 4) -> dict:
    """Tokens per second of both, the best of `rounds` in which they take turns, and their ratio."""
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    best = {"ours": 0.0, "torch": 0.0}
    try:
        torch.set_num_threads(1)
        with threadpool_limits(1):
            candidates = {"ours": numpy_step(seed), "torch": torch_step(seed)}
            for step in candidates.values():
                step()  # warm up
            for _ in range(rounds):
                for name, step in candidates.items():
                    started = time.perf_counter()
                    for _ in range(steps):
                        step()
                    seconds = time.perf_counter() - started
                    rate = steps * BATCH_SIZE * CONFIG.context_length / seconds
                    best[name] = max(best[name], rate)
    finally:
        torch.set_num_threads(threads)
    ratio = best["ours"] / best["torch"]
    print(
        f"one thread, float32: ours {best['ours']:,.0f} tokens/s, PyTorch {best['torch']:,.0f}"
        f" tokens/s, ratio {ratio:.0%}"
    )
    return {f"{name}_tokens_per_s": rate for name, rate in best.items()} | {"ratio": ratio}
