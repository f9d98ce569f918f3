"""The `serve` command: a run's models behind an OpenAI-compatible server, with a chat page."""

import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Literal

from ch01_text.run import command_line
from ch03_gpt import pick_device
from ch07_practice.serving.model_registry import ModelRegistry
from ch07_practice.story_questions import draw_story, story_prompt

LOOPBACK = ("127.0.0.1", "localhost")
SHUTDOWN_SECONDS = 10  # that running answers may take to finish when the server is stopped
# Seconds before an idle connection is closed. Clients close theirs sooner, so none is cut in use.
KEEP_ALIVE_SECONDS = 60


def serve(
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    max_num_seqs: int = 32,
    max_queue: int = 256,
    weights: Literal["auto", "float32", "bfloat16", "int8", "int4"] = "auto",
    run: Path = Path("runs/default"),
    seed: int = 1337,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Serve the run's models: a chat page at /, OpenAI's API at /v1. Ctrl-C stops the server once
    running answers are finished.

    Args:
        host: Address to listen on; the default is reachable from this machine only.
        port: Port to listen on; 0 takes a free one.
        api_key: Key that clients must send; by default the environment variable
            LLM_COMPANION_API_KEY, or no key.
        max_num_seqs: How many texts are generated at a time.
        max_queue: How many texts may be waiting or running; further requests are refused.
        weights: Number format of the weights; auto takes bfloat16 where the device computes it
            fast.
        run: Folder of the run: its story model ("base", trained now if missing) and its tuned
            models.
        seed: Accepted as in every chapter; each request has its own seed.
        device: Where to compute; auto prefers a GPU.
    """
    try:
        import uvicorn

        from ch07_practice.serving.openai_app import create_app
    except ImportError as error:
        raise ValueError(f"serving needs {error.name}: pip install -e '.[serve]'") from error
    if max_num_seqs < 1 or max_queue < max_num_seqs:
        raise ValueError(
            f"--max-num-seqs must be at least 1, and --max-queue {max_queue} at least"
            f" --max-num-seqs {max_num_seqs}"
        )
    if not 0 <= port <= 65535:
        raise ValueError(f"--port must be 0 (any free one) to 65535, not {port}")
    models = ModelRegistry(run, story_prompt, weights, pick_device(device), max_num_seqs)
    key = api_key or os.environ.get("LLM_COMPANION_API_KEY")
    if host not in LOOPBACK and not key:
        print(
            f"anyone who can reach {host} may use this server; --api-key protects it",
            file=sys.stderr,
        )
    hosts = LOOPBACK if host in LOOPBACK else None
    app = create_app(models, draw_story, max_queue=max_queue, api_key=key, hosts=hosts)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host,
            port,
            log_level="warning",
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
    )
    listening = socket.create_server(
        (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
    )
    address = f"http://{host}:{listening.getsockname()[1]}"
    print(
        f"serving {', '.join(models.checkpoints)} of {run} at {address} (chat page) and"
        f" {address}/v1 (OpenAI's API)",
        flush=True,
    )
    with suppress(KeyboardInterrupt):
        server.run([listening])
    return {"address": address, "models": list(models.checkpoints)}


if __name__ == "__main__":  # a process of its own, for the load test
    command_line(serve)
