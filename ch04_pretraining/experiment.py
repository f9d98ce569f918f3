"""One pretraining run: what is trained, how it is watched, and the folder that keeps it."""

import contextlib
import copy
import json
import math
import signal
from collections.abc import Iterator
from pathlib import Path

import torch

from ch01_text import RandomWindows, sequential_windows
from ch01_text.run import write_atomically
from ch03_gpt import GPTModel, Precision, flops_per_token, generate, matmul_peak
from ch04_pretraining.answer_loss import AnswerLoss
from ch04_pretraining.checkpoint import (
    plain_copy,
    restore_training_state,
    save_checkpoint,
    training_state,
)
from ch04_pretraining.chunked_loss import chunked_next_token_loss
from ch04_pretraining.corpus import Corpus
from ch04_pretraining.loss import bits_per_byte, evaluate_loss
from ch04_pretraining.memorisation import share_seen
from ch04_pretraining.optimizer import make_optimizers
from ch04_pretraining.parallel import (
    Strategy,
    is_first_process,
    n_processes,
    parallelize,
    process_part,
)
from ch04_pretraining.probe import Probe
from ch04_pretraining.recipes import Recipe
from ch04_pretraining.schedule import SCHEDULES
from ch04_pretraining.tensorboard_log import TensorBoardLog
from ch04_pretraining.training import LossFunction, Progress, train

# validations, samples and checkpoints in a run; batches of 16 windows in each
REPORTS, VALIDATION_BATCHES = 10, 3
# passes over a text, after which another one teaches clearly less than new text would
MANY_EPOCHS = 4
# texts, and their length, in which copied runs are looked for
MEMORY_SAMPLES, MEMORY_TOKENS = 32, 128


@contextlib.contextmanager
def ctrl_c_asks() -> Iterator[list[bool]]:
    """Within it the first Ctrl-C only fills the list, so that no step is left half-done."""
    interrupted: list[bool] = []

    def handler(signum, frame):
        if interrupted:
            raise KeyboardInterrupt
        interrupted.append(True)

    previous = signal.signal(signal.SIGINT, handler)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)


def loss_function(corpus: Corpus) -> LossFunction:
    """What suits the text: stories count their answers more."""
    return AnswerLoss(corpus.tokenizer) if corpus.name == "storyworld" else chunked_next_token_loss


class Experiment:
    """One pretraining run: corpus, model, optimizers, batches, and the folder that they are kept
    in.
    """

    def __init__(
        self,
        folder: Path,
        corpus: Corpus,
        model: GPTModel,
        precision: Precision,
        recipe: Recipe,
        settings: dict,
        strategy: Strategy = "single",
    ):
        self.folder, self.corpus, self.model = folder, corpus, model
        self.precision, self.recipe, self.settings = precision, recipe, settings
        self.module, self.loss_fn = parallelize(model, loss_function(corpus), strategy)
        self.optimizers = make_optimizers(
            model, recipe.optimizer, recipe.lr, recipe.muon_lr, dtype=precision.dtype
        )
        T = model.config.context_length
        self.steps = recipe.planned_steps(recipe.batch_size * recipe.grad_accumulation * T)
        self.batches = RandomWindows(
            corpus.train,
            T,
            recipe.batch_size,
            torch.Generator().manual_seed(settings["seed"]),
            corpus.starts,
            precision.device,
            part=process_part(),
        )
        self.progress = Progress()

    def resume(self, state: dict) -> None:
        """Go on from where `state`, a checkpoint's training state, was saved."""
        self.progress = restore_training_state(state, self.optimizers, self.batches)

    def plan(self) -> str:
        """One line: how much of the text will be learned from, how often, and where the run
        stands.
        """
        recipe, done = self.recipe, self.progress
        limits = [f"{self.steps:,} steps"] if self.steps else []
        limits += [f"{recipe.seconds:g} s of training"] if recipe.seconds else []
        line = f"until {' or '.join(limits)}" + (
            ", whichever comes first" if len(limits) > 1 else ""
        )
        if self.steps:
            tokens = (
                self.steps
                * recipe.batch_size
                * recipe.grad_accumulation
                * self.model.config.context_length
            )
            line += f": {tokens:,} tokens, {tokens / self.corpus.n_train:.1f} times the text"
            if tokens > MANY_EPOCHS * self.corpus.n_train:
                line += (
                    f" (after about {MANY_EPOCHS} times, repeated text teaches less: Muennighoff et"
                    " al. 2023)"
                )
        if done.step:
            finished = done.share(self.steps, recipe.seconds) >= 1
            line += f"; resumed at step {done.step:,}, " + (
                "so there is nothing left to do" if finished else f"{done.tokens:,} tokens"
            )
        return line

    @property
    def ended_by(self) -> str:
        """The budget that was used up: tokens, steps or seconds."""
        if self.steps and self.progress.step >= self.steps:
            return "steps" if self.recipe.steps and self.steps == self.recipe.steps else "tokens"
        return "seconds"

    @property
    def checkpoint(self) -> Path:
        """The last one; the one with the lowest validation loss stands beside it in `best`."""
        return self.folder / "checkpoint"

    def bits_per_byte(self, loss: float) -> float:
        return bits_per_byte(loss, len(self.corpus.val), self.corpus.val_bytes)

    def validation_loss(self, model: GPTModel, n_batches: int | None = None) -> float:
        """Mean loss in nats per held-out token, over the first `n_batches` batches or all of
        them.
        """
        T = model.config.context_length
        tokens = self.corpus.val if n_batches is None else self.corpus.val[: n_batches * 16 * T + 1]
        return evaluate_loss(
            model, sequential_windows(tokens, T, batch_size=16, device=model.device), self.precision
        )[0]

    def write(self, model: GPTModel, start: list[int], n_texts: int, n_tokens: int) -> torch.Tensor:
        """Continue `start`, with the same random numbers every time: (n_texts, n_tokens) ids."""
        generator = torch.Generator(model.device).manual_seed(0)
        # the weights change their format once, not every step
        writer = copy.deepcopy(model).to(self.precision.dtype)
        ids = generate(
            writer,
            torch.tensor([start] * n_texts, device=model.device),
            n_tokens,
            temperature=0.8,
            top_k=50,
            generator=generator,
        )
        return ids[:, len(start) :].cpu()

    def sample(self, model: GPTModel) -> str:
        """A text of 120 tokens that begins with the prompt."""
        tokenizer, prompt = self.corpus.tokenizer, self.recipe.prompt
        start = tokenizer.encode(prompt) if prompt else [tokenizer.eot_id]
        return prompt + tokenizer.decode(self.write(model, start, 1, 120)[0].tolist())

    def memorisation(self, model: GPTModel) -> dict:
        """The share of runs of eight tokens found in the training text: in samples, and in
        held-out text.
        """
        n_tokens = min(MEMORY_TOKENS, model.config.context_length - 1)
        texts = self.write(model, [self.corpus.tokenizer.eot_id], MEMORY_SAMPLES, n_tokens).numpy()
        held_out = self.corpus.val[: MEMORY_SAMPLES * MEMORY_TOKENS]
        return {
            "copied_8grams": share_seen(texts, self.corpus.train),
            "copied_8grams_held_out": (
                share_seen([held_out], self.corpus.train) if len(held_out) >= 8 else None
            ),
        }

    def report(self, progress: Progress) -> dict:
        """About ten times in a run: validation loss and a sample, for the log."""
        reports = sum("val_loss" in entry for entry in progress.log)
        if progress.share(self.steps, self.recipe.seconds) < reports / REPORTS:
            return {}
        model = plain_copy(self.model)
        loss = self.validation_loss(model, n_batches=VALIDATION_BATCHES)
        return {
            "val_loss": loss,
            "val_bits_per_byte": self.bits_per_byte(loss),
            "sample": self.sample(model),
        }

    def train(self, tensorboard: bool = False) -> None:
        """Train to the end of the plan, or until Ctrl-C, which saves and raises
        KeyboardInterrupt.
        """
        progress, log_path = self.progress, self.folder / "log.jsonl"
        if is_first_process():
            write_atomically(log_path, "".join(json.dumps(entry) + "\n" for entry in progress.log))
        board = (
            TensorBoardLog(self.folder / "tensorboard")
            if tensorboard and is_first_process()
            else None
        )

        def on_log(entry: dict) -> None:
            if is_first_process():
                with log_path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(entry) + "\n")
            if board:
                board.write(entry)

        alone = n_processes() == 1
        with ctrl_c_asks() if alone else contextlib.nullcontext() as interrupted:
            train(
                self.module,
                self.batches,
                self.loss_fn,
                steps=self.steps,
                seconds=self.recipe.seconds,
                optimizers=self.optimizers,
                grad_accumulation=self.recipe.grad_accumulation,
                schedule=SCHEDULES[self.recipe.schedule](),
                precision=self.precision,
                on_log=on_log,
                progress=progress,
                should_stop=lambda: bool(interrupted),
                evaluate=self.report,
                save=self.save,
                probe=Probe(self.model) if alone else None,
                description=f"pretraining on {self.corpus.name}",
            )
        if interrupted:
            print(
                f"saved at step {progress.step} in {self.checkpoint}; continue with the same"
                " command and --resume"
            )
            raise KeyboardInterrupt

    def save(self, progress: Progress) -> None:
        """Replace the last checkpoint, and the best one where this is better than all before."""
        losses = [entry["val_loss"] for entry in progress.log if "val_loss" in entry]
        if losses and "val_loss" in progress.log[-1] and losses[-1] == min(losses):
            save_checkpoint(self.folder / "best", self.model, self.corpus.tokenizer)
        state = training_state(self.optimizers, self.batches, progress, self.settings)
        save_checkpoint(self.checkpoint, self.model, self.corpus.tokenizer, state)

    def summary(self, model: GPTModel) -> dict:
        """What metrics.json says of a finished run."""
        progress, loss = self.progress, self.validation_loss(model)
        tokens_per_s = progress.tokens / progress.seconds
        peak = matmul_peak(self.model.device, self.precision.dtype) * n_processes()
        return {
            "val_loss": loss,
            "val_bits_per_byte": self.bits_per_byte(loss),
            "val_perplexity": math.exp(loss),
            "best_val_loss": min(
                entry["val_loss"] for entry in progress.log if "val_loss" in entry
            ),
            "train_loss": progress.log[-1]["train_loss"],
            **self.memorisation(model),
            "steps": progress.step,
            "tokens": progress.tokens,
            "seconds": progress.seconds,
            "ended_by": self.ended_by,
            "tokens_per_s": tokens_per_s,
            "mfu": 3 * flops_per_token(self.model.config) * tokens_per_s / peak,
            "matmul_peak_gflops": peak / 1e9,
            "n_params": model.n_parameters(),
            "vocab_size": self.corpus.tokenizer.n_vocab,
            "clipped_share": progress.clipped / progress.step,
            "processes": n_processes(),
            "device": str(self.model.device),
            "dtype": str(self.precision.dtype).removeprefix("torch."),
            "settings": self.settings,
            "samples": [
                {"step": e["step"], "text": e["sample"]} for e in progress.log if "sample" in e
            ],
        }
