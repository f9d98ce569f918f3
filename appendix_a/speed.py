"""Where the time goes, and whether torch.compile can help here."""

import os
import shutil
from collections.abc import Callable

import pandas as pd
from torch.profiler import ProfilerActivity, profile


def profile_operations(function: Callable[[], object], repeats: int = 200) -> pd.DataFrame:
    """The operations that `repeats` calls ran on the CPU, by their share of its time, most
    expensive first.

    Columns: operation, calls (of one call of `function`), share. Time within an operation that
    another one called counts for the inner one only, so that the shares add up to 1. One more call
    before warms up.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own messages stay away
    function()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(repeats):
            function()
    rows = [
        {"operation": event.key, "calls": event.count / repeats, "share": event.self_cpu_time_total}
        for event in profiler.key_averages()
    ]
    table = pd.DataFrame(rows)
    table["share"] /= table["share"].sum()
    return table.sort_values("share", ascending=False, ignore_index=True)


def missing_compiler() -> str | None:
    """Why torch.compile cannot work on this machine's CPU, or None where it can: it writes C++
    and has it compiled.
    """
    wanted = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++", "c++", "cl"]
    if any(map(shutil.which, wanted)):
        return None
    return (
        f"there is no C++ compiler here (none of {', '.join(wanted)} on the path); install one, or"
        " do without"
    )
