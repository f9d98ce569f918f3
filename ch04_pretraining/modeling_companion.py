"""How `transformers` (5 or later) opens this model: Qwen3, some parts of which config.json may
exchange, and a short convolution before each attention.

The parts: learned positions instead of RoPE, LayerNorm instead of RMSNorm, GELU instead of SwiGLU,
and no normalisation of queries and keys. Load with `trust_remote_code=True`, since this file is
executed then.
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask
from transformers.models.llama.modeling_llama import LlamaMLP
from transformers.models.qwen3.configuration_qwen3 import Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import (
    Qwen3DecoderLayer,
    Qwen3ForCausalLM,
    Qwen3Model,
    Qwen3RMSNorm,
)


class CompanionConfig(Qwen3Config):
    """Qwen3's, and `position`, `norm`, `ffn`, `qk_norm`, `mlp_bias` and `conv_kernel` besides."""

    model_type = "llm_companion"


class ShortConvolution(nn.Module):
    """(B, T, C) -> (B, T, C): x plus a weighted sum of the kernel - 1 inputs before, channel by
    channel. The layer's cache keeps the last inputs; padding counts as zeros.
    """

    def __init__(self, kernel: int, width: int, layer_idx: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(kernel - 1, width))  # the oldest input first
        self.layer_idx = layer_idx

    def forward(self, x, past_key_values=None, padding_mask=None):
        n, T = len(self.weight), x.shape[1]
        inputs = x
        if padding_mask is not None:
            inputs = inputs * padding_mask[:, -T:, None].to(x.dtype)
        inputs = inputs.transpose(1, 2)  # (B, C, T)
        if past_key_values is not None:
            inputs = past_key_values.update_conv_state(inputs, self.layer_idx, conv_kernel_size=n)
        # n inputs before the T new ones, of which the last is nobody's predecessor
        before = F.pad(inputs, (n, 0))[..., -(n + T) : -1]  # (B, C, n + T - 1)
        found = F.conv1d(before, self.weight.T.unsqueeze(1), groups=x.shape[2])  # (B, C, T)
        return x + found.transpose(1, 2)


class GeluMLP(nn.Module):
    """(B, T, C) -> (B, T, C): GPT-2's feed-forward layer."""

    def __init__(self, config):
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, config.mlp_bias)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, config.mlp_bias)

    def forward(self, x):
        return self.down_proj(F.gelu(self.up_proj(x), approximate="tanh"))


class NoRotation(nn.Module):
    """Cosines and sines (1, T, D) that leave queries and keys as they are."""

    def __init__(self, config):
        super().__init__()
        self.head_dim = config.head_dim

    def forward(self, x, position_ids):
        ones = x.new_ones(*position_ids.shape, self.head_dim)
        return ones, torch.zeros_like(ones)


def make_norm(config):
    if config.norm == "layernorm":
        return nn.LayerNorm(config.hidden_size, config.rms_norm_eps, bias=config.mlp_bias)
    return Qwen3RMSNorm(config.hidden_size, config.rms_norm_eps)


class CompanionDecoderLayer(Qwen3DecoderLayer):
    def __init__(self, config, layer_idx):
        super().__init__(config, layer_idx)
        width, attention = config.hidden_size, self.self_attn
        attention.o_proj = nn.Linear(width, width, bias=config.mlp_bias)
        if not config.qk_norm:
            attention.q_norm = attention.k_norm = nn.Identity()
        self.input_layernorm = make_norm(config)
        self.post_attention_layernorm = make_norm(config)
        self.mlp = LlamaMLP(config) if config.ffn == "swiglu" else GeluMLP(config)
        self.conv = None
        if config.conv_kernel:
            self.conv = ShortConvolution(config.conv_kernel, width, layer_idx)

    def forward(self, hidden_states, past_key_values=None, padding_mask=None, **kwargs):
        x = self.input_layernorm(hidden_states)
        if self.conv is not None:
            x = self.conv(x, past_key_values, padding_mask)
        x, _ = self.self_attn(hidden_states=x, past_key_values=past_key_values, **kwargs)
        hidden_states = hidden_states + x
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))


class CompanionModel(Qwen3Model):
    def __init__(self, config):
        super().__init__(config)
        self.layers = nn.ModuleList(
            CompanionDecoderLayer(config, i) for i in range(config.num_hidden_layers)
        )
        self.norm = make_norm(config)
        self.embed_positions = None
        if config.position == "learned":
            self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
            self.rotary_emb = NoRotation(config)
        self.post_init()

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        inputs_embeds=None,
        **kwargs,
    ):
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        if position_ids is None:
            first = past_key_values.get_seq_length() if past_key_values is not None else 0
            positions = torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device)
            position_ids = (first + positions).unsqueeze(0)  # (1, T)
        if self.embed_positions is not None:
            inputs_embeds = inputs_embeds + self.embed_positions(position_ids)
        masks = attention_mask
        if not isinstance(masks, dict):
            windowed = self.config.sliding_window is not None
            make_mask = create_sliding_window_causal_mask if windowed else create_causal_mask
            mask = make_mask(
                config=self.config,
                inputs_embeds=inputs_embeds,
                attention_mask=attention_mask,
                past_key_values=past_key_values,
                position_ids=position_ids,
            )
            masks = dict.fromkeys(self.config.layer_types, mask)
        return super().forward(
            attention_mask=masks,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            padding_mask=None if masks is attention_mask else attention_mask,
            **kwargs,
        )


class CompanionForCausalLM(Qwen3ForCausalLM):
    config_class = CompanionConfig

    def __init__(self, config):
        super().__init__(config)
        self.model = CompanionModel(config)
        self.post_init()
