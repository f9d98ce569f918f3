"""A description of the machine that figures were measured on: processor, instruction set,
versions.
"""

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import torch


def instruction_set(device: torch.device | str = "cpu") -> str:
    """What determines the speed of a device's arithmetic: a CPU's vector instructions, as far as
    PyTorch and oneDNN may use them, or a GPU's compute capability.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return "compute capability {}.{}".format(*torch.cuda.get_device_capability(device))
    if device.type != "cpu":
        return device.type
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    vectors = torch.backends.cpu.get_cpu_capability()
    return f"{vectors} (oneDNN limited to {limit})" if limit else vectors


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def describe_machine() -> dict[str, str]:
    """The processor, the operating system and the versions that figures depend on."""
    gpu = "none"
    if torch.cuda.is_available():
        gpu = f"{torch.cuda.get_device_name()}, {instruction_set('cuda')}"
    return {
        "processor": f"{_cpu_name()}, {os.cpu_count()} cores",
        "instruction set": instruction_set(),
        "GPU": gpu,
        "system": platform.platform(terse=True),
        "Python": platform.python_version(),
        "PyTorch": version("torch"),
        "threads": str(torch.get_num_threads()),
    }


def peak_memory() -> int | None:
    """The peak memory of this process in bytes; None on Windows, which does not report it."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
