"""Weights in 8 or 4 bits: a quarter or an eighth of float32's memory, and less to read per decoded
token.

Symmetric int8 with one scale per output row (Dettmers et al. 2022, section 2, without outliers);
asymmetric int4 with a scale and a zero point per group of neighbouring weights in a row (Frantar et
al. 2023, section 4, without error correction). With dynamic activations, the inputs are quantized
as well, one scale per token, and the products are summed as integers. The layers here are for
reading; `fast_linear` has the same layers on PyTorch's kernels.
"""

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch02_attention import LayerCache
from ch03_gpt import GPTModel

GROUP = 32
# Dynamic inputs use 7 bits, so that the sum of two products with int8 weights fits AVX2's 16 bits.
INPUT_LEVELS = 63


def quantize_int8(x: Tensor, levels: int = 127) -> tuple[Tensor, Tensor]:
    """(..., n) -> int8 (..., n) from -levels to levels, and scales (..., 1): integers * scales is x
    within half a scale.

    >>> quantize_int8(torch.tensor([[1.0, -0.5, 0.0]]))[0]
    tensor([[127, -64,   0]], dtype=torch.int8)
    """
    scales = x.abs().amax(dim=-1, keepdim=True).clamp(min=1e-8) / levels
    return (x / scales).round().to(torch.int8), scales


def quantize_int4(x: Tensor, group: int = GROUP) -> tuple[Tensor, Tensor, Tensor]:
    """(O, n) -> uint8 (O, n) from 0 to 15, scales and zeros (O, n / group): in each group, x is
    about (integer - 8) * scale + zero. ValueError if `group` does not divide n.
    """
    if x.shape[-1] % group:
        raise ValueError(f"groups of {group} do not divide the {x.shape[-1]} inputs")
    groups = x.unflatten(-1, (-1, group))  # (O, n / group, group)
    low, high = groups.amin(dim=-1, keepdim=True), groups.amax(dim=-1, keepdim=True)
    scales = (high - low).clamp(min=1e-8) / 15
    integers = ((groups - low) / scales).round().clamp(0, 15).to(torch.uint8)
    return integers.flatten(-2), scales.squeeze(-1), (low + 8 * scales).squeeze(-1)


def dequantize_int4(integers: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    """The inverse of `quantize_int4`, up to rounding."""
    groups = integers.unflatten(-1, (scales.shape[-1], -1)).to(scales.dtype) - 8
    return (groups * scales.unsqueeze(-1) + zeros.unsqueeze(-1)).flatten(-2)


class QuantizedLinear(nn.Module):
    """Base of the quantized layers: (..., n) -> (..., O). Weights are frozen buffers; gradients
    flow to the inputs.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = (
            None
            if linear.bias is None
            else nn.Parameter(linear.bias.detach().clone(), requires_grad=False)
        )

    def add_bias(self, y: Tensor) -> Tensor:
        return y if self.bias is None else y + self.bias.to(y.dtype)


class Int8Linear(QuantizedLinear):
    """int8 weights with one scale per row, dequantized for every product."""

    integers: Tensor
    scales: Tensor

    def __init__(self, linear: nn.Linear):
        super().__init__(linear)
        integers, scales = quantize_int8(linear.weight.detach().float())
        self.register_buffer("integers", integers)  # (O, n)
        self.register_buffer("scales", scales.squeeze(-1).to(linear.weight.dtype))  # (O,)

    def weight(self) -> Tensor:
        """(O, n) in the scales' dtype."""
        return self.integers.to(self.scales.dtype) * self.scales.unsqueeze(-1)

    def forward(self, x: Tensor) -> Tensor:
        return self.add_bias(F.linear(x, self.weight().to(x.dtype)))


class DynamicInt8Linear(Int8Linear):
    """`Int8Linear` with quantized inputs, one scale per token: products and sums are of
    integers.
    """

    def forward(self, x: Tensor) -> Tensor:
        rows, scales = quantize_int8(x.flatten(0, -2).float(), INPUT_LEVELS)
        sums = torch._int_mm(rows, self.integers.T)  # (N, O) int32
        y = sums.float() * scales * self.scales.float()
        return self.add_bias(y.to(x.dtype).view(*x.shape[:-1], -1))


class Int4Linear(QuantizedLinear):
    """int4 weights, two per byte, with a scale and a zero point per group."""

    pairs: Tensor
    scales: Tensor
    zeros: Tensor

    def __init__(self, linear: nn.Linear, group: int = GROUP):
        super().__init__(linear)
        integers, scales, zeros = quantize_int4(linear.weight.detach().float(), group)
        dtype = linear.weight.dtype
        self.register_buffer("pairs", integers[:, ::2] | integers[:, 1::2] << 4)  # (O, n / 2) uint8
        self.register_buffer("scales", scales.to(dtype))  # (O, n / group)
        self.register_buffer("zeros", zeros.to(dtype))  # (O, n / group)

    def weight(self) -> Tensor:
        """(O, n) in the scales' dtype."""
        integers = torch.stack((self.pairs & 15, self.pairs >> 4), dim=-1).flatten(-2)
        return dequantize_int4(integers, self.scales, self.zeros)

    def forward(self, x: Tensor) -> Tensor:
        return self.add_bias(F.linear(x, self.weight().to(x.dtype)))


KINDS: dict[str, Callable[[nn.Linear], nn.Module]] = {
    "int8": Int8Linear,
    "int8-dynamic": DynamicInt8Linear,
    "int4": Int4Linear,
}


Model = TypeVar("Model", bound=nn.Module)


def replace_linear(model: Model, make: Callable[[nn.Linear], nn.Module]) -> Model:
    """Replace each linear layer of `model`, including a tied head, by `make(layer)`; returns the
    model in eval mode. One layer at a time, so that a large model needs little extra memory.
    """
    for module in list(model.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, nn.Linear):
                setattr(module, name, make(layer))
    return model.eval()


def quantize(model: GPTModel, kind: str) -> GPTModel:
    """A copy of `model` with quantized linear layers, the output head included.

    Embeddings, norms and biases stay as they are; a tied head gets its own integers. ValueError if
    `kind` is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of weights {kind!r}; choose one of {', '.join(KINDS)}")
    return replace_linear(copy.deepcopy(model), KINDS[kind])


def n_bytes(model: nn.Module) -> int:
    """Bytes of all weights and scales; shared tensors count once, RoPE's angles not at all."""
    tensors = {tensor.data_ptr(): tensor for tensor in model.state_dict().values()}
    # weights in a kernel's own format, which are not in the state dict
    packed = sum(getattr(module, "packed_bytes", 0) for module in model.modules())
    return packed + sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


class Int8LayerCache(LayerCache):
    """A key/value cache in int8 with one scale per token and head: half of bfloat16's memory. Use
    it by `model.make_cache(B, layer_class=Int8LayerCache)`.
    """

    @classmethod
    def empty(
        cls,
        batch_size: int,
        n_kv_heads: int,
        n_slots: int,
        head_dim: int,
        *,
        dtype: torch.dtype,
        device,
    ):
        shape = (batch_size, n_kv_heads, n_slots + 1)
        integers = [torch.zeros(*shape, head_dim, dtype=torch.int8, device=device) for _ in "kv"]
        scales = [torch.zeros(*shape, 1, dtype=dtype, device=device) for _ in "kv"]
        return cls(k_cache=integers[0], v_cache=integers[1], k_scale=scales[0], v_scale=scales[1])

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """As in `LayerCache`, but the result has been rounded to int8."""
        found = []
        for name, new in (("k", keys), ("v", values)):
            cache, scale = self.tensors[f"{name}_cache"], self.tensors[f"{name}_scale"]
            for memory, part in zip((cache, scale), quantize_int8(new), strict=True):
                self.layout.store(memory, part)
            found.append(self.layout.load(cache).to(scale.dtype) * self.layout.load(scale))
        return found[0], found[1]
