"""Our weights in other packages' models, so that benchmarks compare like with like."""

import tempfile

from torch import nn

from ch03_gpt import GPTModel
from ch04_pretraining.pretrained import save_pretrained


def transformers_gpt2(model: GPTModel) -> nn.Module:
    """`model`'s weights in transformers' GPT-2, without dropout."""
    from transformers import GPT2LMHeadModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # Windows: the weights may be mapped
        save_pretrained(model, folder)
        return GPT2LMHeadModel.from_pretrained(folder, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)


def book_gpt(model: GPTModel, variant: str = "plain") -> nn.Module:
    """`model`'s weights in the book's package: its "plain" GPTModel, or its "fast" one with PyTorch's layers."""
    from llms_from_scratch.ch04 import GPTModel as BookGPT
    from llms_from_scratch.ch04 import GPTModelFast as FastBookGPT

    config, fast = model.config, variant == "fast"
    theirs = {"plain": BookGPT, "fast": FastBookGPT}[variant]({
        "vocab_size": config.vocab_size, "context_length": config.context_length, "emb_dim": config.emb_dim,
        "n_heads": config.n_heads, "n_layers": config.n_layers, "drop_rate": 0.0, "qkv_bias": True})
    tensors = {}
    for name, tensor in model.state_dict().items():
        if ".qkv." in name and not fast:
            for part, rows in zip(("W_query", "W_key", "W_value"), tensor.chunk(3), strict=True):
                tensors[name.replace("qkv", part)] = rows
        elif "norm" in name and fast:
            tensors[name.replace("scale", "weight").replace("shift", "bias")] = tensor
        else:
            tensors[name.replace("out_proj", "proj") if fast else name] = tensor
    theirs.out_head.weight = theirs.tok_emb.weight
    missing, unexpected = theirs.load_state_dict(tensors, strict=False)
    left = [name for name in missing if not name.endswith("mask")] + unexpected
    if left:
        raise ValueError(f"this version of llms-from-scratch has other weights than 1.0.19: {left[:3]}")
    return theirs
