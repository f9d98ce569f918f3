"""A run of two untrained models and a server of it in a thread, for the tests of chapter 7."""

import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from ch01_text import BPETokenizer
from ch01_text.storyworld import stories
from ch03_gpt import GPTModel, preset_config
from ch04_pretraining import save_checkpoint
from ch06_instruction.chat import chat_tokenizer

httpx = pytest.importorskip("httpx", reason="httpx is not installed (pip install -e '.[test]')")
openai = pytest.importorskip("openai", reason="openai is not installed (pip install -e '.[test]')")
uvicorn = pytest.importorskip(
    "uvicorn", reason="uvicorn is not installed (pip install -e '.[serve]')"
)

from ch07_practice.serving.model_registry import ModelRegistry  # noqa: E402
from ch07_practice.serving.openai_app import create_app  # noqa: E402
from ch07_practice.story_questions import draw_story, story_prompt  # noqa: E402

CONTEXT = 320
ASK = [{"role": "user", "content": "Tom went to the mill.\nWhere is Tom?"}]


def wild_checkpoint(folder: Path, tokenizer: BPETokenizer, seed: int, **shape) -> None:
    """An untrained model with clear preferences, so that rounding cannot change its choices."""
    torch.manual_seed(seed)
    model = GPTModel(
        preset_config(
            "tiny",
            vocab_size=tokenizer.n_vocab,
            context_length=CONTEXT,
            **{"emb_dim": 32, "n_heads": 2} | shape,
        )
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    save_checkpoint(folder, model, tokenizer)


def make_run(folder: Path, **shape) -> Path:
    """A run with an untrained story model and an untrained tuned model of the given shape."""
    tokenizer = BPETokenizer.train([story.text for story in stories(60)], 600)
    wild_checkpoint(folder / "ch04_pretraining" / "checkpoint", tokenizer, 0)
    wild_checkpoint(folder / "ch06_instruction" / "sft", chat_tokenizer(tokenizer), 1, **shape)
    return folder


class Running:
    """A server in a thread, as a context."""

    def __init__(self, run: Path, max_num_seqs: int = 16, **options):
        models = ModelRegistry(run, story_prompt, "float32", max_num_seqs=max_num_seqs)
        self.app = create_app(models, draw_story, **options)
        self.server = uvicorn.Server(uvicorn.Config(self.app, port=0, log_level="error"))
        self.thread = threading.Thread(target=self.server.run)

    def __enter__(self):
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"
        self.queue = self.app.state.queue
        return self

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join()

    def client(self, api_key: str = "none", kind=openai.OpenAI):
        return kind(base_url=f"{self.url}/v1", api_key=api_key, max_retries=0)

    def engine(self, name: str = "sft"):
        return self.queue.models.open(name).engine


def until(condition, seconds: float = 20) -> None:
    """Wait until another thread has made `condition` true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never became true"
        time.sleep(0.01)


@contextmanager
def step_by_step(server: Running, name: str = "sft"):
    """Makes an engine wait for one `release` of the yielded semaphore before each step; afterwards it
    runs freely again.
    """
    engine, step, gate = server.engine(name), server.engine(name).step, threading.Semaphore(0)

    def gated():
        gate.acquire(timeout=30)
        return step()

    engine.step = gated
    try:
        yield gate
    finally:
        del engine.step
        gate.release(1000)
        until(lambda: not server.queue.handles and not engine.busy)
