"""Where to compute: a CUDA GPU, Apple's MPS, or the CPU."""

import torch


def pick_device(name: str = "auto") -> torch.device:
    """Return the device called `name`; "auto" takes cuda, then mps, then cpu.

    ValueError if the device is unknown or absent.
    """
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    available = [device for device, there in present.items() if there]
    if name == "auto":
        return torch.device(available[0])
    if name not in available:
        raise ValueError(
            f"there is no device {name!r} here; choose auto or {' or '.join(available)}"
        )
    return torch.device(name)
