"""Where the time of a training step goes: matrix products, attention, the optimizers, the rest.

The step is timed by the clock, in four parts: forward and backward pass, clipping, Muon and AdamW.
PyTorch's profiler then divides the first part by operation. It slows every operation down a little,
so only its proportions are used.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.profiler import ProfilerActivity, profile

from ch03_gpt import GPTModel, Precision, pick_precision, preset_config
from ch04_pretraining.optimizer import make_optimizers
from ch07_practice.benchmarks.benchmark_runner import Rows, print_table, synchronize
from ch07_practice.benchmarks.machine import instruction_set

# preset -> sequences in a batch
BATCH_SIZES = {
    "story": 8,
    "messages": 16,
    "chars-3x128": 16,
    "chars-4x128": 16,
    "chars-4x256": 16,
    "small": 8,
    "medium": 8,
}
STEPS, QUICK_STEPS = 30, 5
# parts of operation names; every other operation is "elementwise and other"
GROUPS = {"matrix products": ("::mm", "addmm", "bmm"), "attention": ("scaled_dot_product",)}


@dataclass
class Step:
    """One training step on random ids; every part can be timed alone."""

    model: GPTModel
    optimizers: list[Optimizer]
    ids: Tensor  # (B, T)
    targets: Tensor  # (B, T)
    precision: Precision

    @classmethod
    def of(cls, preset: str, batch_size: int, device: torch.device) -> "Step":
        config = preset_config(preset)
        precision = pick_precision(device)
        torch.manual_seed(0)
        model = GPTModel(config).to(device)
        shape = (2, batch_size, config.context_length)
        ids, targets = torch.randint(0, config.vocab_size, shape, device=device)
        return cls(model, make_optimizers(model, dtype=precision.dtype), ids, targets, precision)

    def gradients(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        with self.precision.autocast():
            loss = F.cross_entropy(self.model(self.ids).flatten(0, 1), self.targets.flatten())
        loss.backward()

    def clip(self) -> None:
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)

    def parts(self) -> dict[str, Callable[[], object]]:
        """The parts of a step by name, in their order."""
        updates = {type(optimizer).__name__: optimizer.step for optimizer in self.optimizers}
        return {"forward and backward": self.gradients, "clipping": self.clip, **updates}


def time_parts(step: Step, n_steps: int) -> dict[str, float]:
    """Median seconds of every part of a step, after three steps to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in step.parts()}
    for number in range(n_steps + 3):
        for name, run in step.parts().items():
            began = time.perf_counter()
            run()
            synchronize(step.ids.device)
            if number >= 3:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}


def operation_shares(step: Step) -> dict[str, float]:
    """The shares of `GROUPS`, and of all other operations, of the forward and backward pass."""
    on_gpu = step.ids.device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities) as profiler:
        for _ in range(3):
            step.gradients()
        synchronize(step.ids.device)
    totals = dict.fromkeys([*GROUPS, "elementwise and other"], 0.0)
    for event in profiler.key_averages():
        took = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        group = next(
            (name for name, parts in GROUPS.items() if any(part in event.key for part in parts)),
            "elementwise and other",
        )
        totals[group] += took
    return {name: total / sum(totals.values()) for name, total in totals.items()}


def step_profile(device: torch.device, n_steps: int, save: Callable[[Rows], object]) -> Rows:
    """One row per preset: tokens per second, and the share of a step that each part takes."""
    rows: Rows = []
    for preset, batch_size in BATCH_SIZES.items():
        step = Step.of(preset, batch_size, device)
        times = time_parts(step, n_steps)
        whole = sum(times.values())
        model_share = times.pop("forward and backward") / whole
        shares = {name: seconds / whole for name, seconds in times.items()}
        shares |= {name: share * model_share for name, share in operation_shares(step).items()}
        rows.append(
            {"preset": preset, "batch": batch_size, "tokens/s": step.ids.numel() / whole}
            | {name: f"{share:.0%}" for name, share in shares.items()}
            | {"instruction set": instruction_set(device)}
        )
        save(rows)
    print_table(rows)
    return rows
