"""The server against the real `openai` client: a uvicorn thread, untrained float32 models. Oracles: `complete` for each
request alone, the model's own log-probabilities, jsonschema, self-consistency."""

import asyncio
import json
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jsonschema
import pytest
import torch

from ch01_text import BPETokenizer
from ch03_gpt import GPTModel, complete, preset_config
from ch04_pretraining import load_checkpoint, save_checkpoint
from ch06_instruction.chat import chat_tokenizer, prompt_ids

httpx = pytest.importorskip("httpx", reason="httpx is not installed (pip install -e '.[test]')")
openai = pytest.importorskip("openai", reason="openai is not installed (pip install -e '.[test]')")
uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed (pip install -e '.[serve]')")

from ch07_practice.served import Models, base_text  # noqa: E402
from ch07_practice.server import create_app  # noqa: E402

ROOT = Path(__file__).parent.parent
CONTEXT = 160
TEXT = "Tom went to the mill. Where is Tom? The café is by the lake, and 12 cats sit on the mat.\n" * 30
ASK = [{"role": "user", "content": "Tom went to the mill.\nWhere is Tom?"}]


def wild_checkpoint(folder: Path, tokenizer: BPETokenizer, seed: int) -> None:
    """An untrained model that is sure of what it says, so that rounding decides nothing."""
    torch.manual_seed(seed)
    model = GPTModel(preset_config("tiny", vocab_size=tokenizer.n_vocab, context_length=CONTEXT, emb_dim=32, n_heads=2))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    save_checkpoint(folder, model, tokenizer)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    tokenizer = BPETokenizer.train(TEXT, 290)
    wild_checkpoint(folder / "ch04_pretraining" / "checkpoint", tokenizer, 0)
    wild_checkpoint(folder / "ch06_instruction" / "sft", chat_tokenizer(tokenizer), 1)
    return folder


class Running:
    """A server in a thread, as a context."""

    def __init__(self, run: Path, rows: int = 16, **options):
        self.app = create_app(Models(run, "float32", rows=rows), **options)
        self.server = uvicorn.Server(uvicorn.Config(self.app, port=0, log_level="error"))
        self.thread = threading.Thread(target=self.server.run)

    def __enter__(self):
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"
        self.service = self.app.state.service
        return self

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join()

    def client(self, api_key: str = "none", kind=openai.OpenAI):
        return kind(base_url=f"{self.url}/v1", api_key=api_key, max_retries=0)

    def engine(self, name: str = "sft"):
        return self.service.models.open(name).engine


@pytest.fixture(scope="module")
def server(run_folder):
    with Running(run_folder) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    return server.client()


@pytest.fixture(scope="module")
def sft(run_folder):
    return load_checkpoint(run_folder / "ch06_instruction" / "sft")


def alone(sft, messages, max_tokens, **options):
    """What the model writes by itself."""
    model, tokenizer = sft
    stops = (tokenizer.eot_id, tokenizer.special_tokens["<|end|>"])
    one, = complete(model, [prompt_ids(tokenizer, messages)], max_tokens, stop_ids=stops, **options)
    return one, tokenizer.decode(one.ids)


def test_models_are_those_of_the_run(client):
    assert [model.id for model in client.models.list()] == ["base", "sft"]
    assert client.models.retrieve("sft").object == "model"
    with pytest.raises(openai.NotFoundError, match="no model 'nope'"):
        client.models.retrieve("nope")


def test_a_greedy_answer_is_the_models_own(client, sft):
    wanted, text = alone(sft, ASK, 40)
    reply = client.chat.completions.create(model="sft", messages=ASK, temperature=0, max_tokens=40)
    choice, = reply.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == (
        "assistant", text, wanted.finish_reason)
    prompt = len(prompt_ids(sft[1], ASK))
    assert reply.usage.model_dump(include={"prompt_tokens", "completion_tokens", "total_tokens"}) == {
        "prompt_tokens": prompt, "completion_tokens": 40, "total_tokens": prompt + 40}
