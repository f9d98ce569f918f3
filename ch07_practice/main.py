"""Chapter 7: use the model that the earlier chapters made."""

import sys
import webbrowser
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from ch01_text.run import command_line
from ch03_gpt import SamplingParams, pick_device
from ch03_gpt.text_stream import check_stops
from ch07_practice.bench_command import bench
from ch07_practice.completion import Completer, Format
from ch07_practice.evaluate_command import evaluate
from ch07_practice.labs_command import labs
from ch07_practice.load_test import load
from ch07_practice.models import open_model
from ch07_practice.report import write_report
from ch07_practice.scaling_lab import scaling
from ch07_practice.serving import serve
from ch07_practice.terminal_chat import chat
from ch07_practice.verify import verify


def report(
    run: Path = Path("runs/default"),
    open: bool = False,
    seed: int = 1337,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Write the report card of a run: report.html, report.md and report.json.

    Args:
        run: Folder of the run.
        open: Show it in the browser.
        seed: Accepted as in every chapter; a report draws no random numbers.
        device: Accepted as in every chapter; a report computes nothing.
    """
    summary = write_report(run)
    if open:
        webbrowser.open((run / "report.html").resolve().as_uri())
    print(f"the report card is in {run / 'report.html'} (and .md, .json)")
    return summary


def complete(
    prompt: Positional[str],
    max_new_tokens: int = 200,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    presence_penalty: float = 0.0,
    frequency_penalty: float = 0.0,
    stop: tuple[str, ...] = (),
    samples: int = 1,
    regex: str | None = None,
    choices: tuple[str, ...] = (),
    json_schema: str | None = None,
    speculate: Literal["no", "lookup"] = "no",
    model: str | None = None,
    weights: Literal["auto", "float32", "bfloat16", "int8", "int4"] = "auto",
    run: Path = Path("runs/default"),
    seed: int = 1337,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> dict:
    """Continue a text, word by word in the terminal.

    Args:
        prompt: How the text begins.
        max_new_tokens: Stop after so many tokens, if the model does not end the text before. When
            prompt and text fill the model's context, the older half is forgotten.
        temperature: 0 always takes the most likely token, 1 draws as the model predicts.
        top_k: Draw from so many most likely tokens only.
        top_p: Draw from the fewest tokens only whose probabilities reach this.
        min_p: Draw from tokens only that are at least this many times as likely as the most likely
            one.
        repetition_penalty: Above 1, tokens of prompt and text get less likely.
        presence_penalty: Taken off the logits of tokens written before.
        frequency_penalty: The same, as often as they were written.
        stop: End before any of these strings.
        samples: Write so many texts, one after the other.
        regex: The text must match this regular expression from beginning to end.
        choices: The text must be one of these.
        json_schema: The text must be JSON that obeys this schema (a file, or the schema itself).
        speculate: lookup guesses from what is written already and checks several tokens at once;
            the texts are distributed as without.
        model: A checkpoint folder, gpt2 to gpt2-xl, a Hub repository or its folder; by default the
            run's own model, which chapter 4 pretrains where there is none.
        weights: Number format of the weights; auto takes bfloat16 where the device is good at it.
        run: Folder of the run.
        seed: Of the first text; the next ones count on.
        device: Where to compute; auto prefers a GPU.
    """
    if samples < 1:
        raise ValueError(f"--samples must be at least 1, not {samples}")
    options = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "presence_penalty": presence_penalty,
        "frequency_penalty": frequency_penalty,
    }
    SamplingParams(**options)
    check_stops(stop)
    form = Format(regex, choices, json_schema)
    form.expression()
    if not prompt:
        raise ValueError("the prompt is empty; say how the text begins")
    completer = Completer(*open_model(run, model, weights, pick_device(device)))
    texts = []
    for number in range(samples):
        tokens = completer.tokens(
            prompt, max_new_tokens, seed + number, form, speculate == "lookup", **options
        )
        texts.append(completer.show(prompt, tokens, stop))
        speed = texts[-1]["tokens"] / texts[-1]["seconds"]
        print(f"({texts[-1]['tokens']} tokens, {speed:,.0f} tokens/s)\n", file=sys.stderr)
    return {"prompt": prompt, "texts": texts}


if __name__ == "__main__":
    command_line(
        {
            "bench": bench,
            "chat": chat,
            "complete": complete,
            "evaluate": evaluate,
            "labs": labs,
            "load": load,
            "report": report,
            "scaling": scaling,
            "serve": serve,
            "verify": verify,
        }
    )
