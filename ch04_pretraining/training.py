"""The one training loop of all chapters: the loss is an argument.

The step is visible from top to bottom: learning rate, micro-batches, clipping, update. Losses and
gradient norms stay on the device until a log step, so that nothing waits for the device in between.
With several processes, each calls `train` with its part of every batch, and sums are averaged over
them.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from ch03_gpt import Precision, pick_precision
from ch04_pretraining.allocator import disable_malloc_trim
from ch04_pretraining.layer_monitor import LayerMonitor
from ch04_pretraining.loss import LossFunction, next_token_loss
from ch04_pretraining.optimizer import make_optimizers, set_learning_rate
from ch04_pretraining.parallel import all_reduce_mean, full_tensor, get_world_size
from ch04_pretraining.schedule import Schedule, warmup_stable_decay


@dataclass
class TrainState:
    """How far a training run has come: its counters and its log. A checkpoint keeps it."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0  # spent training, without evaluation and saving
    clipped: int = 0  # steps whose gradient was clipped
    log: list[dict] = field(default_factory=list)  # one entry per log step
    # (loss sum, tokens, norm) of steps not yet logged
    pending: list[Tensor] = field(default_factory=list)

    def share(self, steps: int | None, seconds: float | None, ahead: int = 0) -> float:
        """The share of the plan, in [0, 1], that is done after `ahead` more steps."""
        # Nobody knows how long the next step takes, so `ahead` counts in a plan of steps only. The
        # first step of a run that time alone limits is at progress 0, where a warm-up has rate 0.
        by_steps = (self.step + ahead) / steps if steps else 0.0
        by_time = self.seconds / seconds if seconds else 0.0
        return min(1.0, max(by_steps, by_time))  # the budget nearest its end decides

    def check(self) -> None:
        """ValueError if the loss or gradient of a step since the last log entry is infinite or
        NaN.
        """
        # (n, 3) on the device -> three lists of n numbers, in a single transfer
        losses, _, norms = torch.stack(self.pending).T.tolist() if self.pending else ([], [], [])
        for i, (loss, norm) in enumerate(zip(losses, norms, strict=True)):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                # the norms before the failure: did training diverge gradually or fail at once?
                earlier = norms[:i] or [entry["grad_norm"] for entry in self.log[-1:]]
                raise ValueError(
                    f"the {'gradient' if math.isfinite(loss) else 'loss'} of step"
                    f" {self.step - len(losses) + i + 1} is infinite or NaN;"
                    f" {_likely_cause(earlier)}; nothing was saved since the last checkpoint"
                )

    def summarize(self, max_norm: float | None) -> dict:
        """Average the pending steps by tokens and clear them."""
        losses, counts, norms = torch.stack(self.pending).T.tolist()
        self.clipped += sum(max_norm is not None and norm > max_norm for norm in norms)
        self.pending = []
        return {
            "step": self.step,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
            "train_loss": sum(losses) / sum(counts),  # a mean over tokens, not over steps
            "grad_norm": sum(norms) / len(norms),  # before clipping
            "clipped": self.clipped / self.step,  # share of all steps so far
        }


def _likely_cause(earlier_norms: list[float]) -> str:
    if not earlier_norms:
        return "it was so from the first step, so look at the weights and the data"
    # A healthy run's norms stay within an order of magnitude. At ten times their median, or above
    # 100, the run had begun to diverge.
    if earlier_norms[-1] > 10 * statistics.median(earlier_norms) or earlier_norms[-1] > 100:
        return (
            f"the gradient norm had risen to {earlier_norms[-1]:.3g}, so the learning rate is too"
            " high or the warm-up too short"
        )
    return "try a lower learning rate, a longer warm-up, or --dtype float32"


@dataclass(frozen=True)
class TrainOptions:
    """How `train` takes its steps, and what it calls between them."""

    # multiplier of the peak learning rate, as a function of progress in [0, 1]
    schedule: Schedule = field(default_factory=warmup_stable_decay)
    grad_accumulation: int = 1  # micro-batches per step; their gradients are summed
    max_norm: float | None = 1.0  # clip the gradient to this norm; None: never
    log_every: int = 10  # steps per log entry
    on_log: Callable[[dict], None] | None = None  # receives each log entry
    # called at log steps; the findings that it returns, if any, join the log entry
    evaluate: Callable[[TrainState], dict] | None = None
    # called after an evaluation with findings, and when `should_stop` ends the run
    save: Callable[[TrainState], None] | None = None
    should_stop: Callable[[], bool] = lambda: False  # asked after every step
    monitor: LayerMonitor | None = None  # measures the layers at log steps
    description: str = "training"  # stands before the progress bar

    def __post_init__(self):
        if self.grad_accumulation < 1:
            raise ValueError(f"grad_accumulation must be at least 1, not {self.grad_accumulation}")


def _progress_bar(description: str) -> tqdm:
    layout = "{desc}: {n:3.0f}% |{bar:24}| {elapsed}<{remaining} {postfix}"
    # disable=None hides the bar where the output is not a terminal
    return tqdm(total=100, unit="%", desc=description, disable=None, bar_format=layout)


def _update_bar(bar: tqdm, share: float, state: TrainState) -> None:
    """Move the bar to the share of the plan that is done, with the latest loss and the speed."""
    bar.update(round(100 * share, 1) - bar.n)  # tqdm takes increments
    bar.set_postfix_str(
        f"step {state.step:,}, loss {state.log[-1]['train_loss']:.3f}, "
        f"{state.tokens / state.seconds:,.0f} tokens/s"
    )


def _announce(description: str, steps: int, seconds_per_step: float) -> None:
    """Print how long the `steps` that are left will take, if that is half a minute or more."""
    left = steps * seconds_per_step
    if left >= 30:
        tqdm.write(
            f"{description}: about {left / 60:.1f} minutes for {steps:,} more steps "
            f"({seconds_per_step:.2f} s each), validation not counted"
        )


def average_and_clip_grads(
    parameters: list[nn.Parameter], n_tokens: Tensor, max_norm: float | None
) -> Tensor:
    """Divide summed gradients by `n_tokens`, clip their norm to `max_norm` (Pascanu et al. 2013),
    and return the norm of the means before clipping.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    # One norm over all parameters, so that clipping keeps the gradient's direction. With FSDP each
    # process has the norm of its shards; `full_tensor` combines them.
    norm = full_tensor(nn.utils.get_total_norm(gradients)) / n_tokens
    factor = 1.0 / n_tokens
    # Clipping is part of the factor, a tensor on the device, even where it is 1: an `if norm >
    # max_norm` would make the CPU wait for the device in every step.
    if max_norm is not None:
        factor = factor * torch.clamp(max_norm / (norm + 1e-6), max=1.0)
    torch._foreach_mul_(gradients, factor)  # in place: these tensors are the parameters' .grad
    return norm


def train_step(
    model: nn.Module,
    batches: Iterator[tuple[Tensor, ...]],
    loss_fn: LossFunction,
    optimizers: list[Optimizer],
    precision: Precision,
    options: TrainOptions = TrainOptions(),
) -> tuple[Tensor, int]:
    """Update the weights once, on the next `options.grad_accumulation` batches.

    Returns a (3,) tensor (sum of losses, number of target tokens, gradient norm), still on the
    device, and the number of input tokens.
    """
    parameters = [p for group in optimizers for g in group.param_groups for p in g["params"]]
    loss_sum = count_sum = torch.zeros((), device=parameters[0].device)
    n_inputs = 0
    for _ in range(options.grad_accumulation):
        batch = next(batches)
        # The forward pass alone runs under autocast; each operation's backward pass then uses the
        # dtype that its forward pass had.
        with precision.autocast():
            loss, count = loss_fn(model, batch)
        # `loss` is a sum over tokens, and backward adds to .grad. After the last micro-batch .grad
        # is what one large batch would have given.
        loss.backward()
        loss_sum = loss_sum + loss.detach().float()  # detached: keeps no graph alive
        count_sum = count_sum + count.float()
        n_inputs += batch[0].numel()
    # DDP and FSDP leave the mean over processes in .grad, where the sum is wanted. Dividing it by
    # the mean of the counts instead of by their sum makes up for that exactly.
    loss_sum, count_sum = all_reduce_mean(torch.stack((loss_sum, count_sum)))
    norm = average_and_clip_grads(parameters, count_sum, options.max_norm)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)  # None frees the memory; zeros would keep it
    return torch.stack((loss_sum, count_sum, norm)), n_inputs


def _add_log_entry(state: TrainState, options: TrainOptions, extra: dict) -> dict:
    """Add an entry about the pending steps to the log, with `extra` and what `options.evaluate`
    finds; returns these findings.
    """
    state.check()  # first: `summarize` clears the pending steps
    entry = state.summarize(options.max_norm) | extra
    findings = options.evaluate(state) if options.evaluate else {}
    state.log.append(entry | findings)
    if options.on_log:
        options.on_log(state.log[-1])
    return findings


def train(
    model: nn.Module,
    batches: Iterator[tuple[Tensor, ...]],
    loss_fn: LossFunction = next_token_loss,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    optimizers: list[Optimizer] | None = None,
    precision: Precision | None = None,
    state: TrainState | None = None,
    options: TrainOptions = TrainOptions(),
) -> TrainState:
    """Train `model` in place on `batches` of device tensors until `steps` or `seconds` are over.

    `loss_fn(model, batch)` returns (sum of losses, number of tokens) as tensors. A step averages
    over all tokens of its micro-batches, so that splitting a batch changes nothing. Evaluation and
    saving do not count as training time. Pass the `state` of an earlier run to continue it.

    ValueError if neither `steps` nor `seconds` is given, and, with the step and the likely cause,
    if the loss stops being finite.
    """
    if not steps and not seconds:
        raise ValueError("say how long to train: steps, seconds, or both")
    precision = precision or pick_precision(next(model.parameters()).device, "float32")
    optimizers = optimizers or make_optimizers(model, dtype=precision.dtype)
    state = state or TrainState()
    if precision.device.type == "cpu":
        disable_malloc_trim()
    # without arguments, so that the monitor can take the same step between its measurements
    step = partial(train_step, model, batches, loss_fn, optimizers, precision, options)
    model.train()
    stopped, begun = False, (state.step, state.seconds)
    with _progress_bar(options.description) as bar:
        while state.share(steps, seconds) < 1 and not stopped:
            started = time.perf_counter()
            set_learning_rate(optimizers, options.schedule(state.share(steps, seconds, ahead=1)))
            layers: dict = {}
            # + 1, because the counter still stands at the step before this one
            logging = (state.step + 1) % options.log_every == 0
            if options.monitor is not None and logging:
                sums, n_inputs, layers = options.monitor.measure(step)
            else:
                sums, n_inputs = step()
            if logging or seconds or state.step + 1 == steps:
                sums[0].item()  # wait for the work queued on a GPU: the clock must not miss it
            state.pending.append(sums)  # (3,), still on the device
            state.step += 1
            state.tokens += n_inputs * get_world_size()
            state.seconds += time.perf_counter() - started
            stopped = options.should_stop()
            # The first steps also allocate memory and may compile, so five of them give an
            # estimate on the high side.
            if steps and state.step == begun[0] + 5:
                seconds_per_step = (state.seconds - begun[1]) / 5
                _announce(options.description, steps - state.step, seconds_per_step)
            share = state.share(steps, seconds)
            if logging or share >= 1:
                extra = {"lr": optimizers[0].param_groups[0]["lr"]} | layers
                findings = _add_log_entry(state, options, extra)
                _update_bar(bar, share, state)
                if options.save and findings and not stopped:  # a stopped run is saved below
                    options.save(state)
        if options.save and stopped:
            state.check()  # steps since the last log entry have not been checked
            options.save(state)
    return state
