"""One pretraining run: what is trained, how it is watched, and the folder that keeps it."""

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.optim import Optimizer

from ch01_text import RandomWindows, sequential_windows
from ch01_text.run import write_atomically
from ch03_gpt import GPTModel, Precision, flops_per_token, generate, matmul_peak
from ch04_pretraining.answer_loss import AnswerLoss
from ch04_pretraining.checkpoint import save_checkpoint, training_state
from ch04_pretraining.chunked_loss import chunked_next_token_loss
from ch04_pretraining.corpus import Corpus
from ch04_pretraining.loss import bits_per_byte, evaluate_loss, next_token_loss
from ch04_pretraining.schedule import SCHEDULES
from ch04_pretraining.training import LossFunction, Progress, train


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


class Experiment:
    """One pretraining run: corpus, model, optimizers, batches, and the folder that they are kept in."""

    def __init__(self, folder: Path, corpus: Corpus, model: GPTModel, optimizers: list[Optimizer],
                 batches: RandomWindows, precision: Precision, prompt: str, settings: dict):
        self.folder, self.corpus, self.model, self.optimizers = folder, corpus, model, optimizers
        self.batches, self.precision, self.prompt, self.settings = batches, precision, prompt, settings

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint"

    def validation_loss(self, n_batches: int | None = None) -> tuple[float, int]:
        """Mean loss in nats per held-out token, over the first `n_batches` batches or all of them."""
        T = self.model.config.context_length
        tokens = self.corpus.val if n_batches is None else self.corpus.val[: n_batches * 16 * T + 1]
        batches = sequential_windows(tokens, T, batch_size=16, device=self.model.device)
        return evaluate_loss(self.model, batches, self.precision)

    def write_sample(self, n_tokens: int = 120) -> str:
        """Continue the prompt, with the same random numbers every time."""
        tokenizer, device = self.corpus.tokenizer, self.model.device
        start = tokenizer.encode(self.prompt) if self.prompt else [tokenizer.eot_id]
        generator = torch.Generator(device).manual_seed(0)
        with self.precision.autocast():
            ids = generate(self.model, torch.tensor([start], device=device), n_tokens, temperature=0.8, top_k=50,
                           generator=generator)
        return tokenizer.decode(ids[0].tolist() if self.prompt else ids[0, 1:].tolist())

    def report(self, progress: Progress) -> dict:
        """About ten times in a run: validation loss and a sample, for the log."""
        reports = sum("val_loss" in entry for entry in progress.log)
        if progress.share(self.settings["steps"], self.settings["seconds"]) < reports / 10:
            return {}
        return {"val_loss": self.validation_loss(n_batches=8)[0], "sample": self.write_sample()}

    def loss_function(self, compile: bool) -> LossFunction:
        """What suits the text: stories count their answers more; a compiled model has no chunked head."""
        if compile:
            return next_token_loss
        return AnswerLoss(self.corpus.tokenizer) if self.corpus.name == "storyworld" else chunked_next_token_loss

    def train(self, progress: Progress, compile: bool, grad_accumulation: int) -> Progress:
        """Train to the end of the plan, or until Ctrl-C, which saves and raises KeyboardInterrupt."""
        steps, seconds = self.settings["steps"], self.settings["seconds"]
        log_path = self.folder / "log.jsonl"
        write_atomically(log_path, "".join(json.dumps(entry) + "\n" for entry in progress.log))
        with ctrl_c_asks() as interrupted:
            train(torch.compile(self.model) if compile else self.model, self.batches, self.loss_function(compile),
                  steps=steps, seconds=seconds, optimizers=self.optimizers, grad_accumulation=grad_accumulation,
                  schedule=SCHEDULES[self.settings["schedule"]](), precision=self.precision, log_path=log_path,
                  progress=progress, should_stop=lambda: bool(interrupted), evaluate=self.report, save=self.save,
                  description=f"pretraining on {self.corpus.name}")
        if interrupted:
            print(f"saved at step {progress.step} in {self.checkpoint}; continue with the same command and --resume")
            raise KeyboardInterrupt
        return progress

    def save(self, progress: Progress) -> None:
        state = training_state(self.optimizers, self.batches, progress, self.settings)
        save_checkpoint(self.checkpoint, self.model, self.corpus.tokenizer, state)

    def summary(self, progress: Progress) -> dict:
        """What metrics.json says of a finished run."""
        loss, n_tokens = self.validation_loss()
        tokens_per_s = progress.tokens / progress.seconds
        peak = matmul_peak(self.model.device, self.precision.dtype)
        return {
            "val_loss": loss,
            "val_bits_per_byte": bits_per_byte(loss, n_tokens, self.corpus.val_bytes),
            "train_loss": progress.log[-1]["train_loss"],
            "steps": progress.step,
            "tokens": progress.tokens,
            "seconds": progress.seconds,
            "tokens_per_s": tokens_per_s,
            "mfu": 3 * flops_per_token(self.model.config) * tokens_per_s / peak,
            "matmul_peak_gflops": peak / 1e9,
            "n_params": self.model.n_parameters(),
            "vocab_size": self.corpus.tokenizer.n_vocab,
            "clipped_share": progress.clipped / progress.step,
            "device": str(self.model.device),
            "dtype": str(self.precision.dtype).removeprefix("torch."),
            "settings": self.settings,
            "samples": [{"step": e["step"], "text": e["sample"]} for e in progress.log if "sample" in e],
        }
