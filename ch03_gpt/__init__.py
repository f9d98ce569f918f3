"""Chapter 3: the GPT model, its parts, and how it writes."""

from ch02_attention.device import pick_device
from ch03_gpt.config import GPT_CONFIG_124M, PRESETS, GPTConfig, preset_config
from ch03_gpt.flops import cache_bytes_per_token, flops_per_token, matmul_peak, matrix_parameters
from ch03_gpt.generation import generate, generate_text_simple, stream
from ch03_gpt.layers import GELU, FeedForward, LayerNorm, RMSNorm, SwiGLU
from ch03_gpt.model import GPTModel, TransformerBlock
from ch03_gpt.precision import Precision, pick_precision
from ch03_gpt.sampling import filter_logits, sample

__all__ = [
    "GELU",
    "GPT_CONFIG_124M",
    "PRESETS",
    "FeedForward",
    "GPTConfig",
    "GPTModel",
    "LayerNorm",
    "Precision",
    "RMSNorm",
    "SwiGLU",
    "TransformerBlock",
    "cache_bytes_per_token",
    "filter_logits",
    "flops_per_token",
    "generate",
    "generate_text_simple",
    "matmul_peak",
    "matrix_parameters",
    "pick_device",
    "pick_precision",
    "preset_config",
    "sample",
    "stream",
]
