"""The `load` command: many clients against a server in a process of its own; every answer is
checked.

First all clients stream long answers at the same time, then they send many short requests. The
right answer to each is known beforehand: the greedy text that the model generates alone. Prompts
with a close decision are left out, because rounding, which differs between batches, could flip it.
"""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from tqdm import tqdm

from ch01_text.run import chapter_folder, write_atomically
from ch03_gpt import complete, pick_device
from ch07_practice.serving.model_registry import ModelRegistry, ServedModel
from ch07_practice.story_questions import draw_story, story_prompt

if TYPE_CHECKING:
    import httpx

# least difference, in nats, between the two most likely tokens; float32 rounding is a thousand
# times smaller
MARGIN = 0.01
STREAMED_TOKENS, SHORT_TOKENS = 60, 4  # of an answer
N_PROMPTS = 64  # different ones
WARM_UP = 0.1  # share of the short requests before memory is first measured


@dataclass(frozen=True)
class Case:
    """A request and the text that it must return."""

    path: str
    body: dict
    expected: str


@dataclass
class Outcome:
    """What happened to the requests of one phase."""

    seconds: list[float] = field(default_factory=list)  # until the last token
    first: list[float] = field(default_factory=list)  # until the first piece of a stream
    lost: list[str] = field(default_factory=list)  # the errors
    mixed_up: int = 0  # answers with a wrong text

    def summary(self) -> dict[str, float | int]:
        """Counts, and the 50th and 99th percentiles in seconds."""
        summary: dict[str, float | int] = {
            "answers": len(self.seconds),
            "lost": len(self.lost),
            "mixed_up": self.mixed_up,
        }
        for name, values in (("", self.seconds), ("first_", self.first)):
            if values:
                p50, p99 = np.percentile(values, [50, 99])
                summary |= {f"{name}p50_seconds": float(p50), f"{name}p99_seconds": float(p99)}
        return summary


def clear_text(served: ServedModel, prompt: list[int], n: int) -> str | None:
    """The greedy text of `n` tokens; None if it ends early or a decision is close."""
    (one,) = complete(served.model, [prompt], n, stop_ids=served.stop_ids, logprobs=2)
    margins = [first - second for first, second in (best.values() for best in one.top_logprobs)]
    return (
        served.tokenizer.decode(one.ids)
        if min(margins, default=0) > MARGIN and len(one.ids) == n
        else None
    )


def draw_cases(
    served: ServedModel, n_tokens: int, streamed: bool, n: int = N_PROMPTS
) -> list[Case]:
    """`n` requests to continue beginnings of stories greedily."""
    cases: list[Case] = []
    for seed in range(100 * n + 2):
        words = draw_story(seed)["story"].split()
        text = " ".join(words[: 5 + seed % (len(words) - 5 if streamed else 8)])
        prompt = [served.tokenizer.eot_id, *served.tokenizer.encode(text)]
        if len(prompt) + n_tokens <= served.context_length and (
            expected := clear_text(served, prompt, n_tokens)
        ):
            body = {
                "model": served.name,
                "prompt": text,
                "max_tokens": n_tokens,
                "temperature": 0,
                "stream": streamed,
            }
            cases.append(Case("/v1/completions", body, expected))
        if len(cases) == n:
            return cases
    raise ValueError(
        f"only {len(cases)} of {seed} texts continue without a close decision; this model"
        " is trained too little for a load test"
    )


async def get(client: "httpx.AsyncClient", case: Case, outcome: Outcome) -> None:
    """Send one request and compare the answer."""
    import httpx

    began, text = time.perf_counter(), ""
    try:
        async with client.stream("POST", case.path, json=case.body) as response:
            if response.status_code != 200:
                raise httpx.HTTPError(f"status {response.status_code}")
            if case.body["stream"]:
                async for line in response.aiter_lines():
                    if line.startswith("data: {"):
                        if not text:
                            outcome.first.append(time.perf_counter() - began)
                        text += json.loads(line[6:])["choices"][0]["text"]
            else:
                text = json.loads(await response.aread())["choices"][0]["text"]
    except (httpx.HTTPError, KeyError, ValueError) as error:
        outcome.lost.append(f"{type(error).__name__}: {error}")
        return
    outcome.seconds.append(time.perf_counter() - began)
    outcome.mixed_up += text != case.expected


async def server_memory(client: "httpx.AsyncClient") -> float | None:
    """Resident memory of the server's process in MiB; None if the system does not report it (only
    Linux does).
    """
    match = re.search(
        r"^process_resident_memory_bytes (\S+)", (await client.get("/metrics")).text, re.MULTILINE
    )
    return float(match.group(1)) / 2**20 if match else None


async def send_all(
    client: "httpx.AsyncClient", cases: Iterator[Case], clients: int, until: float, bar: tqdm
) -> Outcome:
    """`clients` share the `cases`, each sending one request at a time, until the clock reaches
    `until`.
    """
    outcome = Outcome()

    async def one_client() -> None:
        for case in cases:
            if time.perf_counter() > until:
                return
            await get(client, case, outcome)
            bar.update()

    await asyncio.gather(*(one_client() for _ in range(clients)))
    return outcome


async def run_load(
    address: str,
    streams: list[Case],
    shorts: list[Case],
    clients: int,
    requests: int,
    seconds: float,
) -> dict:
    """The results of `load`, without its settings."""
    import httpx

    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=address, timeout=seconds, limits=limits) as client:
        until = time.perf_counter() + seconds
        with tqdm(total=2 * clients, desc="streaming", leave=False, disable=None) as bar:
            streamed = await send_all(
                client, (streams[i % N_PROMPTS] for i in range(2 * clients)), clients, until, bar
            )
        cases = [
            iter([shorts[i % N_PROMPTS] for i in part])
            for part in np.split(np.arange(requests), [max(1, round(WARM_UP * requests))])
        ]
        began = time.perf_counter()
        with tqdm(total=requests, desc="short requests", leave=False, disable=None) as bar:
            first = await send_all(client, cases[0], clients, until, bar)
            before = await server_memory(client)
            rest = await send_all(client, cases[1], clients, until, bar)
        passed = time.perf_counter() - began
        after = await server_memory(client)
    both = Outcome(
        first.seconds + rest.seconds, [], first.lost + rest.lost, first.mixed_up + rest.mixed_up
    )
    for error in [*streamed.lost, *both.lost][:5]:
        print(f"lost: {error}", file=sys.stderr)
    return {
        "streaming": streamed.summary(),
        "short": both.summary(),
        "requests_per_s": len(both.seconds) / passed,
        "memory_mib": [before, after],
        "memory_growth": after / before - 1 if before and after else None,
    }


@contextmanager
def running_server(*options: str) -> Iterator[str]:
    """A server in another process; yields its address. ValueError if it does not start."""
    module = "ch07_practice.serving.serve_command"
    command = [sys.executable, "-m", module, "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None  # a pipe
    try:
        address = re.search(r"http://\S+", process.stdout.readline())
        if not address:
            raise ValueError("the server did not start; its error message is above")
        yield address.group()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def load(
    clients: int = 64,
    requests: int = 10_000,
    seconds: float = 600.0,
    model: str | None = None,
    max_num_seqs: int = 32,
    run: Path = Path("runs/default"),
    seed: int = 1337,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Test a server of the run's models under load: no answer may be lost or mixed up, and memory
    must not grow. Results go to load.json.

    Args:
        clients: How many clients send requests at the same time.
        requests: Number of short requests, of four tokens each.
        seconds: Time limit; the test fails if not all answers arrive within it.
        model: Which model to ask; by default the base model.
        max_num_seqs: How many texts the server generates at a time.
        run: Folder of the run; results go to RUN/ch07_practice.
        seed: Accepted as in every chapter; prompts are the same in each run.
        device: Where to compute; auto prefers a GPU.
    """
    if min(clients, requests, max_num_seqs) < 1 or seconds <= 0:
        raise ValueError(
            f"--clients {clients}, --requests {requests}, --max-num-seqs {max_num_seqs} and"
            f" --seconds {seconds} must be positive"
        )
    try:
        import httpx  # noqa: F401
    except ImportError as error:
        raise ValueError("the load test needs httpx: pip install -e '.[serve]'") from error
    models = ModelRegistry(run, story_prompt, "float32", pick_device(device), max_num_seqs=1)
    served = models.open(model or "base")
    folder = chapter_folder(run, "ch07_practice")
    streams, shorts = (
        draw_cases(served, n, streamed)
        for n, streamed in ((STREAMED_TOKENS, True), (SHORT_TOKENS, False))
    )
    options = {
        "--run": run,
        "--weights": "float32",
        "--device": device,
        "--max-num-seqs": max_num_seqs,
        "--max-queue": max_num_seqs + clients,
    }
    with running_server(*(str(part) for option in options.items() for part in option)) as address:
        outcome = asyncio.run(run_load(address, streams, shorts, clients, requests, seconds))
    settings = {"clients": clients, "requests": requests, "max_num_seqs": max_num_seqs}
    result = {"model": served.name, **settings, **outcome}
    write_atomically(folder / "load.json", json.dumps(result, indent=2) + "\n")
    print_result(result)
    check_result(result)
    print(f"saved in {folder / 'load.json'}")
    return result


def print_result(result: dict) -> None:
    """Print the result in a few lines."""
    for name in ("streaming", "short"):
        phase = result[name]
        times = ", ".join(
            f"{key.removesuffix('_seconds').replace('_', ' token ')} {1000 * value:,.0f} ms"
            for key, value in phase.items()
            if key.endswith("seconds")
        )
        print(
            f"{name:9}  {phase['answers']:,} answers, {phase['lost']} lost, {phase['mixed_up']}"
            f" mixed up; {times}"
        )
    growth = result["memory_growth"]
    memory = (
        "not reported by this system"
        if growth is None
        else f"{result['memory_mib'][1]:,.0f} MiB, {growth:+.1%}"
    )
    print(
        f"short requests per second {result['requests_per_s']:,.0f}; the server's memory: {memory}"
    )


def check_result(result: dict) -> None:
    """ValueError if an answer was lost, mixed up or missing, or memory grew by more than 5 %."""
    expected = {"streaming": 2 * result["clients"], "short": result["requests"]}
    for name, n in expected.items():
        phase = result[name]
        if phase["lost"] or phase["mixed_up"] or phase["answers"] != n:
            raise ValueError(
                f"{name}: {phase['answers']:,} of {n:,} answers arrived in time, {phase['lost']}"
                f" were lost, {phase['mixed_up']} mixed up"
            )
    if (result["memory_growth"] or 0) > 0.05:
        raise ValueError(
            f"the server's memory grew by {result['memory_growth']:.1%}, more than 5 %"
        )
