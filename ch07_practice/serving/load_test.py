"""The command `load`: a server in a process of its own under many clients, every answer checked.

First all clients stream answers about stories at the same time, then they send many short requests.
What each must get back is known before: the greedy text that the model writes alone. Only prompts
count where no decision is so close that rounding, which differs from batch to batch, could turn it.
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
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from tqdm import tqdm

from ch01_text.run import chapter_folder, write_atomically
from ch03_gpt import complete, pick_device
from ch07_practice.served import Models, ServedModel, draw_story

if TYPE_CHECKING:
    import httpx

# nats between the two most likely tokens; float32 rounding is a thousand times smaller
MARGIN = 0.01
STREAMED, SHORT = 60, 4  # tokens of an answer
KINDS = 64  # different prompts
WARM_UP = 0.1  # of the short requests; what the server needs after these is what it needs


@dataclass(frozen=True)
class Case:
    """A request and the text that must come back."""

    path: str
    body: dict
    wanted: str


@dataclass
class Outcome:
    """What happened to the requests of one kind."""

    seconds: list[float] = field(default_factory=list)  # until the last token
    first: list[float] = field(default_factory=list)  # until the first piece of a stream
    lost: list[str] = field(default_factory=list)  # why
    mixed_up: int = 0

    def summary(self) -> dict[str, float | int]:
        """Counts, and the 50th and 99th percentiles in seconds."""
        found: dict[str, float | int] = {
            "answers": len(self.seconds),
            "lost": len(self.lost),
            "mixed_up": self.mixed_up,
        }
        for name, values in (("", self.seconds), ("first_", self.first)):
            if values:
                p50, p99 = np.percentile(values, [50, 99])
                found |= {f"{name}p50_seconds": float(p50), f"{name}p99_seconds": float(p99)}
        return found


def sure_text(served: ServedModel, prompt: list[int], n: int) -> str | None:
    """The greedy text of `n` tokens, None where a decision is close."""
    (one,) = complete(served.model, [prompt], n, stop_ids=served.stop_ids, logprobs=2)
    margins = [first - second for first, second in (best.values() for best in one.top_logprobs)]
    return (
        served.tokenizer.decode(one.ids)
        if min(margins, default=0) > MARGIN and len(one.ids) == n
        else None
    )


def draw_cases(served: ServedModel, n_tokens: int, streamed: bool, n: int = KINDS) -> list[Case]:
    """`n` requests to go on with stories from somewhere in them, at greedy decoding."""
    cases = []
    for seed in count():
        words = draw_story(seed)["story"].split()
        text = " ".join(words[: 5 + seed % (len(words) - 5 if streamed else 8)])
        prompt = [served.tokenizer.eot_id, *served.tokenizer.encode(text)]
        if len(prompt) + n_tokens <= served.context_length and (
            wanted := sure_text(served, prompt, n_tokens)
        ):
            body = {
                "model": served.name,
                "prompt": text,
                "max_tokens": n_tokens,
                "temperature": 0,
                "stream": streamed,
            }
            cases.append(Case("/v1/completions", body, wanted))
        if len(cases) == n:
            return cases
        if seed > 100 * n:
            raise ValueError(
                f"of {seed} texts only {len(cases)} are continued without close decisions; this"
                " model has learned too little to test a server with"
            )


async def get(client: "httpx.AsyncClient", case: Case, outcome: Outcome) -> None:
    """Send one request, and compare the answer."""
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
    outcome.mixed_up += text != case.wanted


async def memory(client: "httpx.AsyncClient") -> float | None:
    """MiB that the server's process holds; None where the system does not tell (only Linux
    does).
    """
    found = re.search(
        r"^process_resident_memory_bytes (\S+)", (await client.get("/metrics")).text, re.MULTILINE
    )
    return float(found.group(1)) / 2**20 if found else None


async def send_all(
    client: "httpx.AsyncClient", cases: Iterator[Case], clients: int, until: float, bar: tqdm
) -> Outcome:
    """`clients` send what is left of `cases`, one after the other each, until the clock says
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


async def measure(
    address: str,
    streams: list[Case],
    shorts: list[Case],
    clients: int,
    requests: int,
    seconds: float,
) -> dict:
    """All that `load` tells, but for the settings."""
    import httpx

    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=address, timeout=seconds, limits=limits) as client:
        until = time.perf_counter() + seconds
        with tqdm(total=2 * clients, desc="streaming", leave=False, disable=None) as bar:
            streamed = await send_all(
                client, (streams[i % KINDS] for i in range(2 * clients)), clients, until, bar
            )
        cases = [
            iter([shorts[i % KINDS] for i in part])
            for part in np.split(np.arange(requests), [max(1, round(WARM_UP * requests))])
        ]
        began = time.perf_counter()
        with tqdm(total=requests, desc="short requests", leave=False, disable=None) as bar:
            first = await send_all(client, cases[0], clients, until, bar)
            before = await memory(client)
            rest = await send_all(client, cases[1], clients, until, bar)
        passed = time.perf_counter() - began
        after = await memory(client)
    short = Outcome(
        first.seconds + rest.seconds, [], first.lost + rest.lost, first.mixed_up + rest.mixed_up
    )
    for why in [*streamed.lost, *short.lost][:5]:
        print(f"lost: {why}", file=sys.stderr)
    return {
        "streaming": streamed.summary(),
        "short": short.summary(),
        "requests_per_s": len(short.seconds) / passed,
        "memory_mib": [before, after],
        "memory_growth": after / before - 1 if before and after else None,
    }


@contextmanager
def running_server(*options: str) -> Iterator[str]:
    """A server in another process; yields its address. ValueError where it does not start."""
    command = [
        sys.executable,
        Path(__file__).with_name("main.py"),
        "serve",
        "--port",
        "0",
        *options,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        found = re.search(r"http://\S+", process.stdout.readline())
        if not found:
            raise ValueError("the server did not start; its own message stands above")
        yield found.group()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def load(
    clients: int = 64,
    requests: int = 10_000,
    seconds: float = 600.0,
    model: str | None = None,
    rows: int = 32,
    run: Path = Path("runs/default"),
    seed: int = 1337,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Test a server of the run's models under load: no answer lost or mixed up, memory flat.
    Results in load.json.

    Args:
        clients: So many stream at the same time, and send the short requests.
        requests: Short requests, of four tokens each.
        seconds: Send no more after so long; then the test has failed.
        model: Stage to ask; by default the base model.
        rows: Texts that the server writes at a time.
        run: Folder of the run; results go to RUN/ch07_practice.
        seed: Accepted as in every chapter; prompts are the same in each run.
        device: Where to compute; auto prefers a GPU.
    """
    if min(clients, requests, rows) < 1 or seconds <= 0:
        raise ValueError(
            f"--clients {clients}, --requests {requests}, --rows {rows} and --seconds {seconds}"
            " must be positive"
        )
    try:
        import httpx  # noqa: F401
    except ImportError as error:
        raise ValueError("the load test needs httpx: pip install -e '.[serve]'") from error
    served = Models(run, "float32", pick_device(device), 1).open(model or "base")
    folder = chapter_folder(run, "ch07_practice")
    streams, shorts = (
        draw_cases(served, n, streamed) for n, streamed in ((STREAMED, True), (SHORT, False))
    )
    options = {
        "--run": run,
        "--weights": "float32",
        "--device": device,
        "--rows": rows,
        "--queue": rows + clients,
    }
    with running_server(*(str(part) for option in options.items() for part in option)) as address:
        found = asyncio.run(measure(address, streams, shorts, clients, requests, seconds))
    result = {"model": served.name, "clients": clients, "requests": requests, "rows": rows, **found}
    write_atomically(folder / "load.json", json.dumps(result, indent=2) + "\n")
    show(result)
    judge(result)
    print(f"saved in {folder / 'load.json'}")
    return result


def show(result: dict) -> None:
    """The result in a few lines."""
    for name in ("streaming", "short"):
        found = result[name]
        times = ", ".join(
            f"{key.removesuffix('_seconds').replace('_', ' token ')} {1000 * value:,.0f} ms"
            for key, value in found.items()
            if key.endswith("seconds")
        )
        print(
            f"{name:9}  {found['answers']:,} answers, {found['lost']} lost, {found['mixed_up']}"
            f" mixed up; {times}"
        )
    growth = result["memory_growth"]
    told = (
        "not told by this system"
        if growth is None
        else f"{result['memory_mib'][1]:,.0f} MiB, {growth:+.1%}"
    )
    print(f"short requests per second {result['requests_per_s']:,.0f}; the server's memory: {told}")


def judge(result: dict) -> None:
    """ValueError where an answer was lost, mixed up or never asked for, or memory grew by more
    than 5 %.
    """
    wanted = {"streaming": 2 * result["clients"], "short": result["requests"]}
    for name, n in wanted.items():
        found = result[name]
        if found["lost"] or found["mixed_up"] or found["answers"] != n:
            raise ValueError(
                f"{name}: of {n:,} answers {found['answers']:,} came in time, {found['lost']} were"
                f" lost, {found['mixed_up']} mixed up"
            )
    if (result["memory_growth"] or 0) > 0.05:
        raise ValueError(
            f"the server's memory grew by {result['memory_growth']:.1%}, more than 5 %"
        )
