"""What this processor or GPU is good at: measured once, in milliseconds, and reported in one line.

bfloat16 is several times faster than float32 on hardware that multiplies it, and several times
slower where it is emulated. It needs no loss scaling, because it has float32's range (Kalamkar et
al. 2019). Weights and sums that need the precision (norms, softmax, losses, optimizer) stay
float32: that is what autocast does.

Every fast path in this project is chosen by `is_faster`, so that nobody runs one that is slower
than the plain path on their machine.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MARGIN = 1.1  # a fast path must win by this factor, so that noise does not decide
Work = Callable[[], torch.Tensor]


def seconds(work: Work, repeats: int = 5) -> float:
    """Shortest of `repeats` runs of `work`, after one to warm up; waits for a GPU to finish."""
    best = float("inf")
    for run in range(repeats + 1):
        started = time.perf_counter()
        work().flatten()[0].item()
        best = min(best, time.perf_counter() - started) if run else best
    return best


def is_faster(candidate: Work, plain: Work) -> bool:
    """Whether `candidate` exists here (raises no RuntimeError) and beats `plain` by `MARGIN`."""
    try:
        return seconds(candidate) * MARGIN < seconds(plain)
    # no such kernel in this build of PyTorch, or not for this processor
    except (RuntimeError, AttributeError):
        return False


@functools.cache
def bfloat16_speedup(device_type: str) -> float:
    """Speed of a bfloat16 matrix product over that of a float32 one (measured in some 30 ms)."""
    n = 4096 if device_type == "cuda" else 256
    a, b = torch.randn(2, n, n, device=device_type)
    a16, b16 = a.bfloat16(), b.bfloat16()
    return seconds(lambda: a @ b, repeats=3) / seconds(lambda: a16 @ b16, repeats=3)


@contextlib.contextmanager
def _without_onednn() -> Iterator[None]:
    """As `torch.backends.mkldnn.flags(enabled=False)`, whose TF32 switches print a warning."""
    enabled = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(enabled)


@functools.cache
def native_gemv_is_faster() -> bool:
    """Whether PyTorch's own bfloat16 matrix-vector product beats oneDNN's on this CPU."""
    x, weight = torch.randn(1, 768).bfloat16(), torch.randn(2304, 768).bfloat16()

    def native() -> torch.Tensor:
        with _without_onednn():
            return torch.nn.functional.linear(x, weight)

    return is_faster(native, lambda: torch.nn.functional.linear(x, weight))


def native_gemv_on_cpu(n_rows: int, dtype: torch.dtype) -> contextlib.AbstractContextManager:
    """Disable oneDNN for bfloat16 matrix-vector products on a CPU (decoding one row), if PyTorch's
    own kernel is faster.
    """
    if n_rows == 1 and dtype == torch.bfloat16 and native_gemv_is_faster():
        return _without_onednn()
    return contextlib.nullcontext()


@dataclass(frozen=True)
class Precision:
    """The device and the dtype of matrix products; `print(precision)` tells which, and why."""

    device: torch.device
    dtype: torch.dtype
    reason: str

    def autocast(self) -> contextlib.AbstractContextManager:
        """The context in which forward passes run."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        return f"computing in {name} on {self.device} ({self.reason})"


def pick_precision(device: torch.device, dtype: str = "auto") -> Precision:
    """Choose bfloat16 autocast if `device` is faster in it, otherwise float32; or use `dtype`.

    ValueError if `dtype` is unknown.
    """
    if dtype != "auto":
        if dtype not in DTYPES:
            raise ValueError(f"unknown dtype {dtype!r}; choose auto, {' or '.join(DTYPES)}")
        return Precision(device, DTYPES[dtype], "as asked")
    if device.type not in ("cpu", "cuda"):
        return Precision(device, torch.float32, f"bfloat16 is not tested on {device.type}")
    ratio = bfloat16_speedup(device.type)
    if ratio > MARGIN:
        return Precision(
            device,
            torch.bfloat16,
            f"its matrix products run {ratio:.1f} times as fast as float32's here",
        )
    return Precision(
        device, torch.float32, f"bfloat16 matrix products take {1 / ratio:.1f} times as long here"
    )
