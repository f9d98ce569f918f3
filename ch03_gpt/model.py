"""GPTModel: embeddings, a stack of pre-norm transformer blocks, a final norm and the output head.

GPT-2's architecture (Radford et al. 2019), with switches in `GPTConfig` that turn it into a
Llama-shaped (RoPE, RMSNorm, SwiGLU, grouped-query heads) or a Qwen3-shaped model (QK-norm, too).
Attribute names are the book's.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ch02_attention import (
    AttentionOptions,
    CacheLayout,
    Dropout,
    KVCache,
    LayerCache,
    MultiHeadAttention,
)
from ch03_gpt.config import GPTConfig
from ch03_gpt.layers import make_feed_forward, make_norm
from ch03_gpt.short_convolution import ShortConvolution


class TransformerBlock(nn.Module):
    """(B, T, C) -> (B, T, C): x + attention(norm(x)), then x + feed_forward(norm(x)).

    With `conv_kernel` a short convolution stands between the first norm and attention.
    """

    def __init__(self, config: GPTConfig | Mapping):
        super().__init__()
        config = GPTConfig.of(config)
        self.att = MultiHeadAttention(
            config.emb_dim,
            config.emb_dim,
            config.context_length,
            config.drop_rate,
            config.n_heads,
            config.qkv_bias,
            AttentionOptions(
                num_kv_heads=config.n_kv_heads,
                rope_base=config.rope_base if config.position == "rope" else None,
                window=config.window,
                out_bias=config.bias,
                qk_norm=config.qk_norm,
                norm_eps=config.norm_eps,
            ),
        )
        self.conv = None
        if config.conv_kernel:
            self.conv = ShortConvolution(config.emb_dim, config.conv_kernel)
        self.ff = make_feed_forward(config)
        self.norm1 = make_norm(config)
        self.norm2 = make_norm(config)
        self.drop_shortcut = Dropout(config.drop_rate)

    def forward(self, x: Tensor, cache: LayerCache | None = None) -> Tensor:
        # Pre-norm: each branch reads a normalised copy of the residual stream x. The stream itself
        # is only added to, so gradients have a direct path to every block (Xiong et al. 2020).
        h = self.norm1(x)  # (B, T, C)
        if self.conv is not None:
            h = self.conv(h, cache)  # (B, T, C)
        x = x + self.drop_shortcut(self.att(h, cache))
        return x + self.drop_shortcut(self.ff(self.norm2(x)))


class GPTModel(nn.Module):
    """Token ids (B, T), int64 -> logits (B, T, V).

    `config` is a GPTConfig or the book's dictionary. Weights start as in nanoGPT: normal with
    standard deviation 0.02, divided by sqrt(2 x layers) for the two matrices of a block that write
    into the residual stream; biases zero.
    """

    def __init__(self, config: GPTConfig | Mapping):
        super().__init__()
        self.config = config = GPTConfig.of(config)
        self.tok_emb = nn.Embedding(config.vocab_size, config.emb_dim)
        self.pos_emb = None
        if config.position == "learned":
            self.pos_emb = nn.Embedding(config.context_length, config.emb_dim)
        self.drop_emb = Dropout(config.drop_rate)
        self.trf_blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.n_layers))
        self.final_norm = make_norm(config)
        self.out_head = nn.Linear(config.emb_dim, config.vocab_size, bias=False)
        self.reset_parameters()
        if config.tie_embeddings:
            # One (V, C) matrix reads tokens and predicts them (Press & Wolf 2017). With two,
            # GPT-2's 124 million parameters would be 163 million.
            self.out_head.weight = self.tok_emb.weight

    def reset_parameters(self) -> None:
        """Draw the weights of linear layers, embeddings and convolutions anew from the default
        generator (`torch.manual_seed` decides); norms stay as they are.
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                # attention's output projection, FeedForward's second matrix, SwiGLU's `down`: every
                # block adds two terms to the stream; without the division, the variance of their
                # sum would grow with the number of blocks
                writes_to_residual = name.endswith(("out_proj", "layers.2", "down"))
                divisor = math.sqrt(2 * self.config.n_layers) if writes_to_residual else 1.0
                nn.init.normal_(module.weight, std=0.02 / divisor)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, ShortConvolution):
                module.reset_parameters()

    @property
    def device(self) -> torch.device:
        return self.tok_emb.weight.device

    def n_parameters(self) -> int:
        """Number of parameters; a tied output head counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def make_cache(
        self,
        batch_size: int,
        max_length: int | None = None,
        layer_class: type[LayerCache] = LayerCache,
    ) -> KVCache:
        """An empty key/value cache for `max_length` tokens in each row (default: the context
        length).

        On a CPU it is float32 whatever the weights are: for a single query, PyTorch's attention
        kernel there is two to five times as fast in float32 as in bfloat16.
        """
        config, weight = self.config, self.tok_emb.weight
        cache = KVCache(
            batch_size,
            config.n_layers,
            config.kv_heads,
            max_length or config.context_length,
            config.head_dim,
            window=config.window,
            dtype=torch.float32 if weight.device.type == "cpu" else weight.dtype,
            device=weight.device,
            layer_class=layer_class,
        )
        # the convolution needs the last few inputs of each row, so the cache keeps them, too
        if config.conv_kernel:
            cache.add_state("conv", config.emb_dim)
        return cache

    def hidden_states(
        self, ids: Tensor, cache: KVCache | None = None, counts: Sequence[int] | None = None
    ) -> Tensor:
        """(B, T) ids -> (B, T, C): everything but the output head.

        With a cache, `ids` are the next tokens of the texts that it holds, and it grows by them; by
        the first `counts[i]` tokens of row i if given, the rest being padding. ValueError if a text
        exceeds the context length.
        """
        T, limit = ids.shape[1], self.config.context_length
        longest = T
        if cache is not None:
            # padding does not count: it may lie beyond the limit
            longest = int((cache.cache_seqlens + (T if counts is None else counts)).max())
        if longest > limit:
            raise ValueError(
                f"{longest} tokens exceed the context length {limit}; shorten the input or build"
                " the model with a longer context"
            )
        layout = cache.prepare(T, counts) if cache is not None else CacheLayout.contiguous(0, T)
        x = self.tok_emb(ids)  # (B, T, C)
        if self.pos_emb is not None:
            x = x + self.pos_emb.weight[layout.positions]  # plus (T, C) or (B, T, C)
        x = self.drop_emb(x)
        # Autocast lowers the precision of matrix products, not of additions: with a float32 x, the
        # residual stream would stay float32 and take twice the memory of bfloat16.
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        for i, block in enumerate(self.trf_blocks):
            x = block(x, cache.layer_cache(i) if cache is not None else None)
        # the stream itself is unnormalised: the sum of the embeddings and of all branches
        return self.final_norm(x)

    def forward(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        # (B, T, V), often the largest tensor of all; generation needs the last token's logits only,
        # and applies the head to `hidden_states` itself
        return self.out_head(self.hidden_states(ids, cache))
