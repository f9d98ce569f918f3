"""One pretraining run: data -> loss -> checkpoint, and the folder that keeps its results."""

import contextlib
import copy
import json
import math
import signal
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from ch01_text import RandomWindows, sequential_windows
from ch01_text.run import write_atomically
from ch03_gpt import GPTModel, Precision, flops_per_token, generate, matmul_peak
from ch04_pretraining.checkpoint import (
    restore_training_state,
    save_checkpoint,
    training_state,
    unsharded_copy,
)
from ch04_pretraining.config import PretrainConfig
from ch04_pretraining.dataset import TokenDataset
from ch04_pretraining.layer_monitor import LayerMonitor
from ch04_pretraining.loss import bits_per_byte, evaluate_loss
from ch04_pretraining.memorisation import ngram_overlap
from ch04_pretraining.optimizer import make_optimizers
from ch04_pretraining.parallel import (
    get_rank_and_world_size,
    get_world_size,
    is_rank_zero,
    parallelize,
)
from ch04_pretraining.schedule import SCHEDULES
from ch04_pretraining.tensorboard_log import TensorBoardLog
from ch04_pretraining.training import TrainOptions, TrainState, train

# validations, samples and checkpoints in a run
REPORTS = 10
# sequences in a batch of validation, and how many batches the validations during the run take
VALIDATION_BATCH, VALIDATION_BATCHES = 16, 2
# after this many passes over a text, another pass teaches clearly less than new text would
MANY_EPOCHS = 4
# texts, and tokens in each, that are searched for runs copied from the training text
MEMORY_SAMPLES, MEMORY_TOKENS = 32, 128


@contextlib.contextmanager
def finish_step_on_ctrl_c() -> Iterator[list[bool]]:
    """Record the first Ctrl-C in the list and let the step finish; a second one interrupts at
    once.
    """
    interrupted: list[bool] = []

    def handler(signum, frame):
        if interrupted:
            raise KeyboardInterrupt
        interrupted.append(True)

    # Python's own handler raises KeyboardInterrupt at once, perhaps in the middle of an optimizer's
    # update, where some weights are new and others old.
    previous = signal.signal(signal.SIGINT, handler)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)


class Trainer:
    """One pretraining run. It owns the batches, the loss, the optimizers, the state of training and
    the checkpoints in `folder`.

    `config` must be filled in (`config.fill_in`).
    """

    def __init__(
        self,
        config: PretrainConfig,
        dataset: TokenDataset,
        model: GPTModel,
        precision: Precision,
        folder: Path,
    ):
        assert config.optimizer and config.lr and config.muon_lr
        assert config.batch_size and config.grad_accumulation
        self.config, self.dataset, self.model = config, dataset, model
        self.precision, self.folder = precision, folder
        # `module` is what `train` calls; `model` remains the GPT inside it, for samples and
        # checkpoints. The optimizers come later because FSDP replaces the parameters.
        self.module, self.loss_fn = parallelize(model, dataset.loss_fn, config.strategy)
        self.optimizers = make_optimizers(
            model, config.optimizer, config.lr, config.muon_lr, dtype=precision.dtype
        )
        T = model.config.context_length
        self.tokens_per_step = config.batch_size * config.grad_accumulation * T  # of all processes
        self.steps = config.planned_steps(self.tokens_per_step)
        rank, world_size = get_rank_and_world_size()
        self.batches = RandomWindows(
            dataset.train,
            T,
            config.batch_size,
            # a generator for the batches alone, so that dropout and samples do not change them
            torch.Generator().manual_seed(config.seed),
            dataset.starts,
            precision.device,
            rank=rank,
            world_size=world_size,
        )
        self.state = TrainState()

    def resume(self, saved: dict) -> None:
        """Continue from `saved`, the training state of a checkpoint."""
        self.state = restore_training_state(saved, self.optimizers, self.batches)

    def plan(self) -> str:
        """One line: how long the run is, how often it passes over the text, and where it stands."""
        config, state = self.config, self.state
        limits = [f"{self.steps:,} steps"] if self.steps else []
        limits += [f"{config.seconds:g} s of training"] if config.seconds else []
        line = f"until {' or '.join(limits)}" + (
            ", whichever comes first" if len(limits) > 1 else ""
        )
        if self.steps:
            tokens = self.steps * self.tokens_per_step
            line += f": {tokens:,} tokens, {tokens / self.dataset.n_train:.1f} times the text"
            if tokens > MANY_EPOCHS * self.dataset.n_train:
                line += (
                    f" (after about {MANY_EPOCHS} times, repeated text teaches less: Muennighoff et"
                    " al. 2023)"
                )
        if state.step:
            finished = state.share(self.steps, config.seconds) >= 1
            line += f"; resumed at step {state.step:,}, " + (
                "so there is nothing left to do" if finished else f"{state.tokens:,} tokens"
            )
        return line

    @property
    def ended_by(self) -> str:
        """The budget that was used up: tokens, steps or seconds."""
        # `self.steps` is the smaller of the two budgets, both counted in steps
        if self.steps and self.state.step >= self.steps:
            return "steps" if self.steps == self.config.steps else "tokens"
        return "seconds"

    @property
    def checkpoint(self) -> Path:
        """The latest one; the one with the lowest validation loss is beside it in `best`."""
        return self.folder / "checkpoint"

    def bits_per_byte(self, loss: float) -> float:
        return bits_per_byte(loss, len(self.dataset.val), self.dataset.val_bytes)

    def validation_loss(self, model: GPTModel, n_batches: int | None = None) -> float:
        """Mean loss in nats per held-out token, over the first `n_batches` batches or all."""
        T, val = model.config.context_length, self.dataset.val
        if n_batches is not None:
            val = val[: n_batches * VALIDATION_BATCH * T + 1]  # the last one is only a target
        # Windows do not overlap: the first tokens of each are predicted from little context.
        batches = sequential_windows(val, T, VALIDATION_BATCH, model.device)
        return evaluate_loss(model, batches, self.precision)[0]

    def continue_text(
        self, model: GPTModel, start: list[int], n_texts: int, n_tokens: int
    ) -> torch.Tensor:
        """Sample continuations of `start`, with the same seed every time: (n_texts, n_tokens)
        ids.
        """
        generator = torch.Generator(model.device).manual_seed(0)
        # cast the weights once, not at every token
        model = copy.deepcopy(model).to(self.precision.dtype)
        ids = generate(
            model,
            torch.tensor([start] * n_texts, device=model.device),
            n_tokens,
            temperature=0.8,
            top_k=50,
            generator=generator,
        )
        return ids[:, len(start) :].cpu()  # `generate` returns the prompt, too

    def sample(self, model: GPTModel) -> str:
        """The prompt and a continuation of 120 tokens."""
        tokenizer, prompt = self.dataset.tokenizer, self.config.prompt or ""
        start = tokenizer.encode(prompt) if prompt else [tokenizer.eot_id]  # as documents begin
        return prompt + tokenizer.decode(self.continue_text(model, start, 1, 120)[0].tolist())

    def memorisation(self, model: GPTModel) -> dict:
        """The share of 8-grams that occur in the training text: of samples, and of held-out text
        for comparison.
        """
        train, val, eot_id = self.dataset.train, self.dataset.val, self.dataset.tokenizer.eot_id
        n_tokens = min(MEMORY_TOKENS, model.config.context_length - 1)  # the start takes one
        texts = self.continue_text(model, [eot_id], MEMORY_SAMPLES, n_tokens).numpy()
        # Held-out text was not copied. Its share is how often 8-grams recur by themselves.
        held_out = val[: MEMORY_SAMPLES * MEMORY_TOKENS]
        return {
            "copied_8grams": ngram_overlap(texts, train),
            "copied_8grams_held_out": (
                ngram_overlap([held_out], train) if len(held_out) >= 8 else None
            ),
        }

    def share_at(self, entry: dict) -> float:
        """The share of the plan that was done when `entry` of the log was written."""
        then = TrainState(step=entry["step"], seconds=entry["seconds"])
        return then.share(self.steps, self.config.seconds)

    def report(self, state: TrainState) -> dict:
        """About ten times in a run: validation loss and a sample, for the log."""
        # A report is due at the first log step, and whenever another tenth of the plan is done. The
        # plan may have grown since the last one (--resume with a larger budget).
        tenths = int(REPORTS * state.share(self.steps, self.config.seconds))
        last = next((entry for entry in reversed(state.log) if "val_loss" in entry), None)
        if last and tenths <= int(REPORTS * self.share_at(last)):
            return {}
        model = unsharded_copy(self.model)
        loss = self.validation_loss(model, n_batches=VALIDATION_BATCHES)
        return {
            "val_loss": loss,
            "val_bits_per_byte": self.bits_per_byte(loss),
            "sample": self.sample(model),
        }

    def train(self) -> None:
        """Train to the end of the plan, or until Ctrl-C, which saves and raises
        KeyboardInterrupt.
        """
        config, state, log_path = self.config, self.state, self.folder / "log.jsonl"
        assert config.grad_accumulation and config.schedule
        board = None
        if is_rank_zero():
            # After a crash the file may have entries later than the checkpoint. They are dropped:
            # the resumed run writes them again.
            write_atomically(log_path, "".join(json.dumps(entry) + "\n" for entry in state.log))
            if config.tensorboard:
                board = TensorBoardLog(self.folder / "tensorboard")

        def on_log(entry: dict) -> None:
            if is_rank_zero():
                with log_path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(entry) + "\n")
            if board:
                board.write(entry)

        # Several processes would have to stop after the same step, so only a single one catches
        # Ctrl-C. With several, `interrupted` is None.
        single = get_world_size() == 1
        with finish_step_on_ctrl_c() if single else contextlib.nullcontext() as interrupted:
            train(
                self.module,
                self.batches,
                self.loss_fn,
                steps=self.steps,
                seconds=config.seconds,
                optimizers=self.optimizers,
                precision=self.precision,
                state=state,
                options=TrainOptions(
                    grad_accumulation=config.grad_accumulation,
                    schedule=SCHEDULES[config.schedule](),
                    on_log=on_log,
                    should_stop=lambda: bool(interrupted),
                    evaluate=self.report,
                    save=self.save,
                    monitor=LayerMonitor(self.model) if single else None,
                    description=f"pretraining on {self.dataset.name}",
                ),
            )
        if interrupted:
            print(
                f"saved at step {state.step} in {self.checkpoint}; continue with the same"
                " command and --resume"
            )
            raise KeyboardInterrupt

    def save(self, state: TrainState) -> None:
        """Replace the latest checkpoint, and the best one if this is better than all before."""
        losses = {entry["step"]: entry["val_loss"] for entry in state.log if "val_loss" in entry}
        # Only weights that were just validated can be the best. After Ctrl-C they have moved on.
        if state.step in losses and losses[state.step] == min(losses.values()):
            # for use, not for resuming: without the training state
            save_checkpoint(self.folder / "best", self.model, self.dataset.tokenizer)
        saved = training_state(self.optimizers, self.batches, state, asdict(self.config))
        save_checkpoint(self.checkpoint, self.model, self.dataset.tokenizer, saved)

    def summary(self, model: GPTModel) -> dict:
        """The metrics of a finished run."""
        state, loss = self.state, self.validation_loss(model)
        tokens_per_s = state.tokens / state.seconds
        peak = matmul_peak(self.model.device, self.precision.dtype) * get_world_size()
        return {
            "val_loss": loss,
            "val_bits_per_byte": self.bits_per_byte(loss),
            "val_perplexity": math.exp(loss),  # so many equally likely tokens would be as hard
            # of the validations on the way: over VALIDATION_BATCHES batches, not all held-out text
            "best_val_loss": min(entry["val_loss"] for entry in state.log if "val_loss" in entry),
            "train_loss": state.log[-1]["train_loss"],  # weighted if the loss function is
            **self.memorisation(model),
            "steps": state.step,
            "tokens": state.tokens,
            "seconds": state.seconds,
            "ended_by": self.ended_by,
            "tokens_per_s": tokens_per_s,
            # Model FLOPs utilisation (Chowdhery et al. 2022), here relative to the measured peak of
            # matrix products. A step costs as much as three forward passes: backward is twice the
            # work.
            "mfu": 3 * flops_per_token(self.model.config) * tokens_per_s / peak,
            "matmul_peak_gflops": peak / 1e9,
            "n_params": model.n_parameters(),
            "vocab_size": self.dataset.tokenizer.n_vocab,
            "clipped_share": state.clipped / state.step,
            "processes": get_world_size(),
            "device": str(self.model.device),
            "dtype": str(self.precision.dtype).removeprefix("torch."),
            "settings": asdict(self.config),
            "samples": [
                {"step": entry["step"], "text": entry["sample"]}
                for entry in state.log
                if "sample" in entry
            ],
        }
