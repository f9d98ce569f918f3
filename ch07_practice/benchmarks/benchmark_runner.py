"""A fair comparison: each measurement runs in a process of its own, one at a time, in alternating
order. Results are passed on at once, so that an interrupted benchmark keeps them.
"""

import contextlib
import importlib.util
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Protocol, TypeVar

import pandas as pd
import torch
from tqdm import tqdm

from ch03_gpt import pick_precision

Rows = list[dict]


class Named(Protocol):
    @property
    def name(self) -> str: ...


class NeedsPackage(Named, Protocol):
    @property
    def package(self) -> str | None: ...  # required package


Size = TypeVar("Size", bound=Named)
Candidate = TypeVar("Candidate", bound=NeedsPackage)
Result = TypeVar("Result")


def installed(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The candidates whose package is installed. Prints which are left out and how to
    install them.
    """
    candidates = list(candidates)
    missing = {
        c.package for c in candidates if c.package and not importlib.util.find_spec(c.package)
    }
    for package in sorted(missing):
        flag = " --no-deps" if package == "llms_from_scratch" else ""
        print(
            f"{package} is not installed and is left out; pip install{flag}"
            f" {package.replace('_', '-')}"
        )
    return [candidate for candidate in candidates if candidate.package not in missing]


def native_formats(formats: Iterable[str], device: torch.device) -> list[str]:
    """The number formats that `device` computes without emulation. Prints if and why bfloat16 is
    left out.
    """
    precision, formats = pick_precision(device), list(formats)
    if precision.dtype == torch.bfloat16 or "bfloat16" not in formats:
        return formats
    print(f"bfloat16 is left out: {precision.reason}")
    return [name for name in formats if name != "bfloat16"]


def _process_main(connection: Connection, work: Callable, arguments: tuple) -> None:
    """Runs in the new process: work, send each result, and finally the error, if there was one."""
    # the parent ignored SIGINT while it started this process
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        try:
            work(lambda result: connection.send((result, None)), *arguments)
        except (ValueError, OSError) as error:
            connection.send((None, ValueError(str(error))))
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            connection.send((None, RuntimeError(f"{type(error).__name__}: {error}")))


def run_in_process(
    name: str, work: Callable[..., None], *arguments, seconds: float | None = None
) -> Iterator:
    """Run `work(report, *arguments)` in a fresh process; yields each result that it passes to
    `report`.

    TimeoutError after `seconds`; ValueError or RuntimeError if the work fails; OSError if the
    process is killed.
    """
    receiver, sender = get_context("spawn").Pipe(duplex=False)
    process = get_context("spawn").Process(
        target=_process_main, args=(sender, work, arguments), daemon=True
    )
    deadline = None if seconds is None else time.monotonic() + seconds
    # Ctrl-C interrupts this process only, which then terminates the other one
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.start()
    signal.signal(signal.SIGINT, previous)
    sender.close()
    try:
        while receiver.poll(None if deadline is None else max(0.0, deadline - time.monotonic())):
            result, error = receiver.recv()
            if error:
                raise error
            yield result
        raise TimeoutError(f"{name} was stopped after {seconds:g} seconds")
    except EOFError:
        process.join()
        if process.exitcode:
            raise OSError(
                f"the process of {name} was killed, probably for lack of memory; choose a smaller"
                " --size"
            ) from None
    finally:
        process.terminate()
        process.join()


def _once(report: Callable, work: Callable, candidate: Candidate, number: int) -> None:
    report(work(candidate, number))


def run_interleaved(
    work: Callable[[Candidate, int], Result],
    candidates: Sequence[Candidate],
    rounds: int,
    title: str,
) -> Iterator[dict[str, list[Result]]]:
    """Run `work(candidate, round)` for each candidate, in a fresh process, `rounds` times. The
    order reverses every round, so that a drift of the machine's speed hits all candidates alike.

    Yields after every measurement the results so far, by candidate.
    """
    results: dict[str, list[Result]] = {candidate.name: [] for candidate in candidates}
    with tqdm(total=len(candidates) * rounds, desc=title, disable=None) as bar:
        for number in range(rounds):
            for candidate in reversed(candidates) if number % 2 else candidates:
                bar.set_postfix_str(candidate.name)
                results[candidate.name] += run_in_process(
                    f"{candidate.name} at {title}", _once, work, candidate, number
                )
                bar.update()
                yield results


def run_sizes(
    measure: Callable[[Size, str], Iterator[Rows]],
    sizes: Sequence[Size],
    save: Callable[[Rows], None],
) -> Rows:
    """Run `measure(size, title)` for each size; returns all rows. `measure` yields the rows of its
    size after every measurement, and `save` then receives all rows so far. Each size's table is
    printed at the end, even if it is incomplete.
    """
    done: Rows = []
    for number, size in enumerate(sizes, 1):
        rows: Rows = []
        try:
            for rows in measure(size, f"{size.name} ({number} of {len(sizes)})"):
                save(done + rows)
        finally:
            print_table(rows)
        done += rows
    return done


def print_table(rows: Rows) -> None:
    """Print the rows as a table, numbers with two decimals."""
    if rows:
        print(pd.DataFrame(rows).to_string(index=False, float_format="{:,.2f}".format) + "\n")


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()
