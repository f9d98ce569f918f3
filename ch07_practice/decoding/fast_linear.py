"""Linear layers on PyTorch's CPU kernels for decoding; the fastest is chosen by measurement.

Decoding multiplies a few rows by large matrices. `PackedLinear` stores float32 or bfloat16 weights
in oneDNN's blocked layout; an ordinary layer converts them for every product of several rows. The
quantized layers compute the same as the readable ones in `quantization`. None has gradients.
"""

import functools
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch03_gpt import GPTConfig
from ch03_gpt.capability import MARGIN, Work, is_faster, seconds
from ch07_practice.decoding.quantization import (
    GROUP,
    INPUT_LEVELS,
    Int4Linear,
    Int8Linear,
    QuantizedLinear,
    quantize_int4,
    quantize_int8,
)

PROBE_ROWS = (1, 8)  # batch sizes that a layer is timed with
# larger matrices are timed with this many rows only, so that timing takes milliseconds
PROBE_OUTPUTS = 4096


class PackedLinear(nn.Module):
    """(..., n) -> (..., O): an `nn.Linear` with its weight in oneDNN's blocked layout."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self.packed_bytes = linear.weight.numel() * linear.weight.element_size()

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


class WeightOnlyInt8Linear(Int8Linear):
    """`Int8Linear` on PyTorch's kernel for bfloat16 inputs and int8 weights."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch._weight_int8pack_mm(x.flatten(0, -2), self.integers, self.scales)
        return self.add_bias(y.view(*x.shape[:-1], -1))


class IntegerInt8Linear(QuantizedLinear):
    """`DynamicInt8Linear` on FBGEMM's kernel: float32 inputs rounded to 7 bits, integer
    products.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__(linear)
        integers, scales = quantize_int8(linear.weight.detach().float())
        self.packed_bytes = integers.numel() + 4 * len(scales)
        engine = torch.backends.quantized.engine
        with warnings.catch_warnings():
            # the tensor type that the kernel takes is deprecated
            warnings.simplefilter("ignore")
            try:
                torch.backends.quantized.engine = "fbgemm"
                weight = torch._make_per_channel_quantized_tensor(
                    integers,
                    scales.flatten().double(),
                    torch.zeros(len(scales), dtype=torch.long),
                    0,
                )
                self.packed = torch.ops.quantized.linear_prepack(weight, None)
            finally:
                torch.backends.quantized.engine = engine

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, -2).float()
        # one scale per row: a neighbour in the batch must not change the result
        largest = rows.abs().amax(dim=-1, keepdim=True).clamp(min=1e-8)
        y = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            rows / largest, 1 / INPUT_LEVELS, INPUT_LEVELS + 1, self.packed
        )
        return self.add_bias((y * largest).to(x.dtype).view(*x.shape[:-1], -1))


class FastInt4Linear(QuantizedLinear):
    """`Int4Linear` on PyTorch's kernel for a CPU, which computes in bfloat16."""

    ROWS = 16  # the kernel needs a multiple of this many outputs

    packed: Tensor
    scales_and_zeros: Tensor

    def __init__(self, linear: nn.Linear, group: int = GROUP):
        super().__init__(linear)
        missing = -linear.out_features % self.ROWS
        weight = F.pad(linear.weight.detach().float(), (0, 0, 0, missing))
        integers, *scales_and_zeros = quantize_int4(weight, group)
        self.group = group
        self.register_buffer("packed", torch._convert_weight_to_int4pack_for_cpu(integers.int(), 1))
        self.register_buffer(
            "scales_and_zeros",
            torch.stack(scales_and_zeros, dim=-1).transpose(0, 1).to(torch.bfloat16).contiguous(),
        )

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, -2).to(torch.bfloat16)
        y = torch._weight_int4pack_mm_for_cpu(rows, self.packed, self.group, self.scales_and_zeros)
        return self.add_bias(y[:, : self.out_features].to(x.dtype).view(*x.shape[:-1], -1))


# the first one is readable and works everywhere
LAYER_CLASSES: dict[str, tuple[type[nn.Module], ...]] = {
    "int8": (Int8Linear, WeightOnlyInt8Linear, IntegerInt8Linear),
    "int4": (Int4Linear, FastInt4Linear),
}


def _work(
    make: Callable[[nn.Linear], nn.Module], outputs: int, inputs: int, dtype: torch.dtype
) -> Work:
    """Work to time: multiply `PROBE_ROWS` rows by the layer that `make` makes of an `nn.Linear`.
    The layer is made in the first call.
    """
    outputs = min(outputs, PROBE_OUTPUTS)
    layer = functools.cache(lambda: make(nn.Linear(inputs, outputs, bias=False).to(dtype)))
    batches = [torch.randn(n, 1, inputs).to(dtype) for n in PROBE_ROWS]

    def work() -> Tensor:
        with torch.inference_mode():
            return [layer()(x) for x in batches][-1]

    return work


@functools.cache
def fastest_layer(kind: str, outputs: int, inputs: int, dtype: torch.dtype) -> type[nn.Module]:
    """The class in `LAYER_CLASSES[kind]` that is fastest on this CPU for weights (outputs, inputs)
    and inputs of `dtype`.
    """
    best, *others = LAYER_CLASSES[kind]
    for other in others:
        if is_faster(_work(other, outputs, inputs, dtype), _work(best, outputs, inputs, dtype)):
            best = other
    return best


def make_fastest(kind: str) -> Callable[[nn.Linear], nn.Module]:
    """A function that turns an `nn.Linear` into the fastest layer with weights of `kind`."""

    def make(linear: nn.Linear) -> nn.Module:
        shape = (linear.out_features, linear.in_features)
        return fastest_layer(kind, *shape, linear.weight.dtype)(linear)

    return make


@functools.cache
def packing_pays(outputs: int, inputs: int, dtype: torch.dtype) -> bool:
    """Whether packed weights of this shape are faster on this CPU."""
    return is_faster(
        _work(PackedLinear, outputs, inputs, dtype), _work(nn.Identity(), outputs, inputs, dtype)
    )


def pack(linear: nn.Linear) -> nn.Module:
    """`linear` with packed weights if that is faster on this CPU, otherwise unchanged."""
    pays = packing_pays(linear.out_features, linear.in_features, linear.weight.dtype)
    return PackedLinear(linear) if pays else linear


def speed_note(kind: str, config: GPTConfig, dtype: torch.dtype) -> str:
    """One line that says whether weights of `kind` are faster on this CPU or only smaller, measured
    on a feed-forward layer.
    """
    shape = (config.hidden_dim, config.emb_dim, dtype)
    ratio = seconds(_work(pack, *shape)) / seconds(_work(make_fastest(kind), *shape))
    name = str(dtype).removeprefix("torch.")
    if ratio > MARGIN:
        return f"{kind} weights: matrix products run {ratio:.1f} times as fast as in {name} here"
    return (
        f"{kind} weights save memory only: matrix products take {1 / ratio:.1f} times as long as"
        f" in {name} here"
    )
