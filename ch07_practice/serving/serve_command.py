"""The command `serve`: a run's models behind an OpenAI-compatible server, and a chat page."""

import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Literal

from ch03_gpt import pick_device
from ch07_practice.served import Models

LOOPBACK = ("127.0.0.1", "localhost")
GRACE = 10  # seconds that running answers have when the server is told to end
# seconds that an idle connection stays: longer than clients keep theirs, so that none is cut in use
KEEP_ALIVE = 60


def serve(
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    rows: int = 32,
    queue: int = 256,
    weights: Literal["auto", "float32", "bfloat16", "int8", "int4"] = "auto",
    run: Path = Path("runs/default"),
    seed: int = 1337,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Serve the run's models: a chat page at /, OpenAI's API at /v1. Ctrl-C ends it, running
    answers first.

    Args:
        host: Address to listen at; the default is reached from this machine only.
        port: 0 takes a free one.
        api_key: Clients must send it; by default the environment variable LLM_COMPANION_API_KEY, or
            none.
        rows: Texts that are written at a time.
        queue: Texts that may wait or be written; more requests are refused until some are done.
        weights: Number format of the weights; auto takes bfloat16 where the device is good at it.
        run: Folder of the run: its story model ("base", made where there is none) and its tuned
            ones.
        seed: Accepted as in every chapter; requests bring their own.
        device: Where to compute; auto prefers a GPU.
    """
    try:
        import uvicorn

        from ch07_practice.server import create_app
    except ImportError as error:
        raise ValueError(f"serving needs {error.name}: pip install -e '.[serve]'") from error
    if rows < 1 or queue < rows:
        raise ValueError(f"--rows must be at least 1, and --queue {queue} at least --rows {rows}")
    if not 0 <= port <= 65535:
        raise ValueError(f"--port must be 0 (any free one) to 65535, not {port}")
    models = Models(run, weights, pick_device(device), rows)
    key = api_key or os.environ.get("LLM_COMPANION_API_KEY")
    if host not in LOOPBACK and not key:
        print(
            f"anyone who reaches {host} may use this server; set --api-key to ask for a key",
            file=sys.stderr,
        )
    app = create_app(models, queue=queue, api_key=key, hosts=LOOPBACK if host in LOOPBACK else None)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host,
            port,
            log_level="warning",
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=GRACE,
        )
    )
    listening = socket.create_server(
        (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
    )
    address = f"http://{host}:{listening.getsockname()[1]}"
    print(
        f"{', '.join(models.folders)} of {run} at {address} (chat page) and {address}/v1 (OpenAI's"
        " API)",
        flush=True,
    )
    with suppress(KeyboardInterrupt):
        server.run([listening])
    return {"address": address, "models": list(models.folders)}
