"""Where the time goes, and whether torch.compile can work on this machine."""

import os
import shutil
from collections.abc import Callable

import pandas as pd
from torch.profiler import ProfilerActivity, profile


def profile_operations(function: Callable[[], object], repeats: int = 200) -> pd.DataFrame:
    """The operations that `repeats` calls ran on the CPU, the most expensive first.

    Columns: operation, calls (per call of `function`), share (of the total time). Time spent in a
    nested operation counts for the inner one only, so the shares add up to 1. One call before the
    measurement warms up.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # silence the profiler's own messages
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
    """Why torch.compile cannot work on this machine's CPU, or None if it can: it writes C++ and
    needs a compiler for it.
    """
    wanted = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++", "c++", "cl"]
    if any(map(shutil.which, wanted)):
        return None
    return (
        f"there is no C++ compiler here (none of {', '.join(wanted)} on the path); install one, or"
        " do without"
    )
