from ch02_attention.attention import MultiHeadAttention, attention_reference, causal_mask
from ch02_attention.cache import KVCache
from ch02_attention.device import pick_device
from ch02_attention.rope import apply_rope, rope_table
