"""A fair contest: every measurement in a process of its own, one at a time, in alternating order."""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Protocol, TypeVar

import torch
from tqdm import tqdm

Found = TypeVar("Found")


class Contender(Protocol):
    name: str
    package: str | None  # what must be installed


def installed(contenders: Sequence[Contender]) -> list[Contender]:
    """Those whose package is installed; says which are left out, and how to install them."""
    missing = {c.package for c in contenders if c.package and not importlib.util.find_spec(c.package)}
    for package in sorted(missing):
        flag = " --no-deps" if package == "llms_from_scratch" else ""
        print(f"{package} is not installed, so it is left out; pip install{flag} {package.replace('_', '-')}")
    return [contender for contender in contenders if contender.package not in missing]


def in_turn(work: Callable[[Contender, int], Found], contenders: Sequence[Contender], rounds: int,
            title: str) -> dict[str, list[Found]]:
    """`work(contender, round)` for each, in a fresh process, `rounds` times; the order turns around every time."""
    found: dict[str, list[Found]] = {contender.name: [] for contender in contenders}
    with tqdm(total=len(contenders) * rounds, desc=title, disable=None) as bar:
        for number in range(rounds):
            for contender in reversed(contenders) if number % 2 else contenders:
                try:
                    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                        found[contender.name].append(pool.submit(work, contender, number).result())
                except BrokenProcessPool as error:
                    raise OSError(f"the process of {contender.name} at {title} was ended from outside, "
                                  "probably for want of memory; take another --size") from error
                bar.update()
    return found


def wait_for(device: torch.device) -> None:
    """Until the device has done all that it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_memory() -> int | None:
    """Bytes that this process has held at most; None where the system does not count them (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
