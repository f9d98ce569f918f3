"""Which number format to compute in, decided once and said in one line.

Matrix products in bfloat16 are several times faster where the hardware multiplies it natively, and
need no loss scaling because bfloat16 has float32's range (Kalamkar et al. 2019). Weights and sums
that need the digits (norms, softmax, losses, optimizer) stay float32: that is what autocast does.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def _fast_bfloat16(device: torch.device) -> tuple[bool, str]:
    """Whether `device` multiplies bfloat16 matrices natively, and the reason in a few words."""
    if device.type == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
        return supported, "the GPU has" + ("" if supported else " no") + " bfloat16 matrix units"
    if device.type == "cpu":
        if torch.cpu._is_amx_tile_supported():
            return True, "this CPU has AMX"
        if torch.cpu._is_avx512_bf16_supported():
            return True, "this CPU has AVX512-BF16"
        return False, "this CPU has neither AMX nor AVX512-BF16"
    return False, f"bfloat16 is not tuned on {device.type}"


@contextlib.contextmanager
def kernels_for(n_rows: int, dtype: torch.dtype) -> Iterator[None]:
    """Within it, a single row in bfloat16 is multiplied by PyTorch's own loop on a CPU rather than by oneDNN, whose
    kernels for whole matrices take one and a half times as long for it."""
    enabled = torch._C._get_mkldnn_enabled()
    if n_rows > 1 or dtype != torch.bfloat16 or not enabled:
        yield
        return
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(True)


@dataclass(frozen=True)
class Precision:
    """The device and the dtype of matrix products; `print(precision)` says which and why."""

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
    """Choose bfloat16 autocast where the device is good at it, else float32; or what `dtype` asks for."""
    fast, reason = _fast_bfloat16(device)
    if dtype == "auto":
        return Precision(device, torch.bfloat16 if fast else torch.float32, reason)
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; choose auto, {' or '.join(DTYPES)}")
    return Precision(device, DTYPES[dtype], "as asked")
