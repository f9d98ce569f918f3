"""Weights in 8 or 4 bits: a quarter or an eighth of float32's memory, and decoding streams all
weights for every token.

Symmetric int8 with one scale per output row (Dettmers et al. 2022, section 2, without outliers);
asymmetric int4 with a scale and a zero point for every group of neighbours in a row (Frantar et al.
2023, section 4, without its correction of errors). With dynamic activations the inputs become
integers as well, one scale per token, and products are sums of integers. The layers here are
readable; `fast_linear.py` has the same layers on PyTorch's kernels.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch02_attention import LayerCache
from ch03_gpt import GPTModel

GROUP = 32
# dynamic inputs take 7 bits: the sum of two products with int8 weights must fit AVX2's 16 bits
INPUT_LEVELS = 63


def quantize_int8(x: Tensor, levels: int = 127) -> tuple[Tensor, Tensor]:
    """(..., n) -> int8 (..., n) from -levels to levels and scales (..., 1): x is about integers
    times scale, within half a scale.

    >>> quantize_int8(torch.tensor([[1.0, -0.5, 0.0]]))[0]
    tensor([[127, -64,   0]], dtype=torch.int8)
    """
    scales = x.abs().amax(dim=-1, keepdim=True).clamp(min=1e-8) / levels
    return (x / scales).round().to(torch.int8), scales


def quantize_int4(x: Tensor, group: int = GROUP) -> tuple[Tensor, Tensor, Tensor]:
    """(O, n) -> uint8 from 0 to 15 (O, n), scales and zeros (O, n / group) each: x is about
    (integer - 8) * scale + zero within its group. ValueError where `group` does not divide n.
    """
    if x.shape[-1] % group:
        raise ValueError(f"groups of {group} do not divide the {x.shape[-1]} inputs")
    groups = x.unflatten(-1, (-1, group))  # (O, n / group, group)
    low, high = groups.amin(dim=-1, keepdim=True), groups.amax(dim=-1, keepdim=True)
    scales = (high - low).clamp(min=1e-8) / 15
    integers = ((groups - low) / scales).round().clamp(0, 15).to(torch.uint8)
    return integers.flatten(-2), scales.squeeze(-1), (low + 8 * scales).squeeze(-1)


def dequantize_int4(integers: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    """The inverse of `quantize_int4`, but for the rounding."""
    groups = integers.unflatten(-1, (scales.shape[-1], -1)).to(scales.dtype) - 8
    return (groups * scales.unsqueeze(-1) + zeros.unsqueeze(-1)).flatten(-2)


class Quantized(nn.Module):
    """What the quantized layers share: (..., n) -> (..., O), frozen weights in buffers,
    gradients for the inputs.
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


class Int8Linear(Quantized):
    """The readable one: int8 weights with a scale a row, which become numbers again for every
    product.
    """

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
    """Inputs are rounded to integers, too, one scale per token: all products and sums are
    between integers.
    """

    def forward(self, x: Tensor) -> Tensor:
        rows, scales = quantize_int8(x.flatten(0, -2).float(), INPUT_LEVELS)
        sums = torch._int_mm(rows, self.integers.T)  # (N, O) int32
        y = sums.float() * scales * self.scales.float()
        return self.add_bias(y.to(x.dtype).view(*x.shape[:-1], -1))


class Int4Linear(Quantized):
    """The readable one: two weights a byte, a scale and a zero point a group."""

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


def replace_linear(model: nn.Module, make: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    """Put `make(layer)` in the place of each linear layer of `model`, a tied head among them;
    returns it in eval mode.

    One layer after the other, so that a large model needs little memory beyond its own.
    """
    for module in list(model.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, nn.Linear):
                setattr(module, name, make(layer))
    return model.eval()


def quantize(model: GPTModel, kind: str) -> GPTModel:
    """A copy of `model` whose linear layers, the output head among them, hold their weights as
    `kind` says.

    Embeddings, norms and biases stay as they are; a tied head gets integers of its own. ValueError
    if `kind` is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of weights {kind!r}; choose one of {', '.join(KINDS)}")
    return replace_linear(copy.deepcopy(model), KINDS[kind])


def n_bytes(model: nn.Module) -> int:
    """Bytes of all weights and scales, shared ones once; what can be computed again (angles of
    RoPE) not.
    """
    tensors = {tensor.data_ptr(): tensor for tensor in model.state_dict().values()}
    # in a kernel's own format
    packed = sum(getattr(module, "packed_bytes", 0) for module in model.modules())
    return packed + sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


class Int8LayerCache(LayerCache):
    """A key/value cache in int8, one scale a token and head: half of bfloat16's memory.
    `model.make_cache(B, layer_cache=Int8LayerCache)`.
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
        return cls((*integers, *scales))

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """As in `LayerCache`, but what comes back has been rounded."""
        found = []
        for integers, scales, new in zip(
            self.tensors[:2], self.tensors[2:], (keys, values), strict=True
        ):
            for memory, part in zip((integers, scales), quantize_int8(new), strict=True):
                self.place.write(memory, part)
            found.append(self.place.read(integers).to(scales.dtype) * self.place.read(scales))
        return found[0], found[1]
