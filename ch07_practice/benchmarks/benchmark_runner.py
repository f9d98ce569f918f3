"""A fair contest: every measurement in a process of its own, one at a time, in alternating order.

Whatever is measured is handed on at once, so that a contest that is cut short keeps it.
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

Found = TypeVar("Found")
Rows = list[dict]


class Contender(Protocol):
    name: str
    package: str | None  # what must be installed


class Size(Protocol):
    name: str


def installed(contenders: Iterable[Contender]) -> list[Contender]:
    """Those whose package is installed; says which are left out, and how to install them."""
    contenders = list(contenders)
    missing = {
        c.package for c in contenders if c.package and not importlib.util.find_spec(c.package)
    }
    for package in sorted(missing):
        flag = " --no-deps" if package == "llms_from_scratch" else ""
        print(
            f"{package} is not installed, so it is left out; pip install{flag}"
            f" {package.replace('_', '-')}"
        )
    return [contender for contender in contenders if contender.package not in missing]


def native(formats: Iterable[str], device: torch.device) -> list[str]:
    """The number formats that `device` need not emulate; says which one is left out, and why."""
    precision, formats = pick_precision(device), list(formats)
    if precision.dtype == torch.bfloat16 or "bfloat16" not in formats:
        return formats
    print(f"bfloat16 is left out: {precision.reason}")
    return [name for name in formats if name != "bfloat16"]


def _begin(connection: Connection, work: Callable, arguments: tuple) -> None:
    """What the new process does: work, send every finding, and in the end the error, if there
    was one.
    """
    # was ignored while the process started
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        try:
            work(lambda found: connection.send((found, None)), *arguments)
        except (ValueError, OSError) as error:
            connection.send((None, ValueError(str(error))))
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            connection.send((None, RuntimeError(f"{type(error).__name__}: {error}")))


def apart(
    name: str, work: Callable[..., None], *arguments, seconds: float | None = None
) -> Iterator:
    """What `work(report, *arguments)` reports in a fresh process, as it comes.

    TimeoutError after `seconds`; ValueError or RuntimeError where the work failed; OSError where
    its process was ended from outside.
    """
    receiver, sender = get_context("spawn").Pipe(duplex=False)
    process = get_context("spawn").Process(
        target=_begin, args=(sender, work, arguments), daemon=True
    )
    deadline = None if seconds is None else time.monotonic() + seconds
    # Ctrl-C is for us; the process gets its end from us
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.start()
    signal.signal(signal.SIGINT, previous)
    sender.close()
    try:
        while receiver.poll(None if deadline is None else max(0.0, deadline - time.monotonic())):
            found, error = receiver.recv()
            if error:
                raise error
            yield found
        raise TimeoutError(f"{name} was stopped after its {seconds:g} seconds")
    except EOFError:
        process.join()
        if process.exitcode:
            raise OSError(
                f"the process of {name} was ended from outside, probably because memory ran out; "
                "take a smaller --size"
            ) from None
    finally:
        process.terminate()
        process.join()


def _once(report: Callable, work: Callable, contender: Contender, number: int) -> None:
    report(work(contender, number))


def in_turn(
    work: Callable[[Contender, int], Found],
    contenders: Sequence[Contender],
    rounds: int,
    title: str,
) -> Iterator[dict[str, list[Found]]]:
    """`work(contender, round)` for each, in a fresh process, `rounds` times; the order turns around
    every time.

    Yields after every measurement what has been found so far, by contender.
    """
    found: dict[str, list[Found]] = {contender.name: [] for contender in contenders}
    with tqdm(total=len(contenders) * rounds, desc=title, disable=None) as bar:
        for number in range(rounds):
            for contender in reversed(contenders) if number % 2 else contenders:
                bar.set_postfix_str(contender.name)
                found[contender.name] += apart(
                    f"{contender.name} at {title}", _once, work, contender, number
                )
                bar.update()
                yield found


def size_by_size(
    measure: Callable[[Size, str], Iterator[Rows]],
    sizes: Sequence[Size],
    save: Callable[[Rows], None],
) -> Rows:
    """All rows of `measure(size, title)`, which yields a size's rows as they stand after every
    measurement: `save` gets all rows so far each time. A size's table is printed when it is
    complete, or as far as it got.
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
    """The rows below each other, numbers with two decimals."""
    if rows:
        print(pd.DataFrame(rows).to_string(index=False, float_format="{:,.2f}".format) + "\n")


def wait_for(device: torch.device) -> None:
    """Until the device has done all that it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()
