"""Chapter 3: the GPT model, its parts, and how it generates text.

Its modules, in the order in which to read them: config, layers, short_convolution, model, sampling,
generation, text_stream, beam, flops, capability.
"""

from ch02_attention import RMSNorm, pick_device
from ch03_gpt.beam import beam_search
from ch03_gpt.capability import Precision, pick_precision
from ch03_gpt.config import GPT_CONFIG_124M, PRESETS, GPTConfig, preset_config
from ch03_gpt.flops import cache_bytes_per_token, flops_per_token, matmul_peak, matrix_parameters
from ch03_gpt.generation import Completion, complete, generate, generate_text_simple, stream
from ch03_gpt.layers import GELU, FeedForward, LayerNorm, SwiGLU
from ch03_gpt.model import GPTModel, TransformerBlock
from ch03_gpt.sampling import Constraint, Sampler, SamplingParams
from ch03_gpt.short_convolution import ShortConvolution
from ch03_gpt.text_stream import TextStream, document_start, stream_decode, stream_text

__all__ = [
    "GELU",
    "GPT_CONFIG_124M",
    "PRESETS",
    "Completion",
    "Constraint",
    "FeedForward",
    "GPTConfig",
    "GPTModel",
    "LayerNorm",
    "Precision",
    "RMSNorm",
    "Sampler",
    "SamplingParams",
    "ShortConvolution",
    "SwiGLU",
    "TextStream",
    "TransformerBlock",
    "beam_search",
    "cache_bytes_per_token",
    "complete",
    "document_start",
    "flops_per_token",
    "generate",
    "generate_text_simple",
    "matmul_peak",
    "matrix_parameters",
    "pick_device",
    "pick_precision",
    "preset_config",
    "stream",
    "stream_decode",
    "stream_text",
]
