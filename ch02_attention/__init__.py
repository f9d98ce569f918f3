"""Chapter 2: attention, from plain Python to the fused multi-head layer.

Its modules, in the order in which to read them: ladder, attention, rms_norm, rope, mask, cache,
dropout, cpu_attention, maps, device.
"""

from ch02_attention.attention import AttentionOptions, MultiHeadAttention, attention_reference
from ch02_attention.cache import KVCache, LayerCache
from ch02_attention.device import pick_device
from ch02_attention.dropout import Dropout
from ch02_attention.ladder import (
    CausalAttention,
    MultiHeadAttentionWrapper,
    SelfAttention_v1,
    SelfAttention_v2,
    attention_lists,
    copy_heads,
    copy_matrices,
)
from ch02_attention.maps import attention_maps, draw_attention
from ch02_attention.mask import CacheLayout, causal_mask
from ch02_attention.rms_norm import RMSNorm, rms_norm_reference
from ch02_attention.rope import apply_rope, rope_reference, rope_table

__all__ = [
    "AttentionOptions",
    "CacheLayout",
    "CausalAttention",
    "Dropout",
    "KVCache",
    "LayerCache",
    "MultiHeadAttention",
    "MultiHeadAttentionWrapper",
    "RMSNorm",
    "SelfAttention_v1",
    "SelfAttention_v2",
    "apply_rope",
    "attention_lists",
    "attention_maps",
    "attention_reference",
    "causal_mask",
    "copy_heads",
    "copy_matrices",
    "draw_attention",
    "pick_device",
    "rms_norm_reference",
    "rope_reference",
    "rope_table",
]
