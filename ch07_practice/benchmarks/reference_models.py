"""Other packages' models with our weights, so that benchmarks compare like with like."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch03_gpt import GPTModel
from ch03_gpt.layers import FeedForward
from ch03_gpt.model import TransformerBlock
from ch04_pretraining.hf_weights import save_pretrained


def transformers_gpt2(model: GPTModel, use_cache: bool = True) -> nn.Module:
    """`model`'s weights in transformers' GPT-2, without dropout. Training needs no
    key/value cache.
    """
    from transformers import GPT2LMHeadModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    # on Windows, memory-mapped weights keep the folder from being removed
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        save_pretrained(model, folder)
        return GPT2LMHeadModel.from_pretrained(
            folder, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=use_cache
        )


def book_gpt(model: GPTModel, variant: str = "plain") -> nn.Module:
    """`model`'s weights in the package of the book: its "plain" GPTModel, or its "fast" one on
    PyTorch's layers.
    """
    from llms_from_scratch.ch04 import GPTModel as BookGPT
    from llms_from_scratch.ch04 import GPTModelFast as FastBookGPT

    config, fast = model.config, variant == "fast"
    theirs = {"plain": BookGPT, "fast": FastBookGPT}[variant](
        {
            "vocab_size": config.vocab_size,
            "context_length": config.context_length,
            "emb_dim": config.emb_dim,
            "n_heads": config.n_heads,
            "n_layers": config.n_layers,
            "drop_rate": 0.0,
            "qkv_bias": True,
        }
    )
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
        raise ValueError(
            f"this version of llms-from-scratch has other weights than 1.0.19: {left[:3]}"
        )
    return theirs


def _copy(layer: nn.Module, spec) -> None:
    """Copy a linear layer or a norm into CTranslate2's specification of one."""
    linear = isinstance(layer, nn.Linear)
    names = (
        (("weight", "weight"), ("bias", "bias"))
        if linear
        else (("scale", "gamma"), ("shift", "beta"))
    )
    for ours, theirs in names:
        setattr(spec, theirs, getattr(layer, ours).detach().float().numpy())


def _ctranslate2_spec(model: GPTModel):
    """`model` as CTranslate2's specification of a GPT-2. Its tokens are named "0", "1" and so on.
    CTranslate2 requires an end-of-text token, so one that ours does not have is appended.
    """
    from ctranslate2.specs import Activation, TransformerDecoderModelSpec

    config = model.config
    assert model.pos_emb is not None  # a GPT-2
    head = F.pad(model.out_head.weight.detach().float(), (0, 0, 0, 1)).numpy()  # (V + 1, C)
    spec = TransformerDecoderModelSpec.from_config(
        config.n_layers, config.n_heads, pre_norm=True, activation=Activation.GELUTanh
    )
    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = decoder.projection.weight = head
    decoder.position_encodings.encodings = model.pos_emb.weight.detach().float().numpy()
    _copy(model.final_norm, decoder.layer_norm)
    for block, layer in zip(model.trf_blocks, decoder.layer, strict=True):
        assert isinstance(block, TransformerBlock) and isinstance(block.ff, FeedForward)
        attention, ffn = layer.self_attention, layer.ffn
        for module, part in (
            (block.norm1, attention.layer_norm),
            (block.att.qkv, attention.linear[0]),
            (block.att.out_proj, attention.linear[1]),
            (block.norm2, ffn.layer_norm),
            (block.ff.layers[0], ffn.linear_0),
            (block.ff.layers[2], ffn.linear_1),
        ):
            _copy(module, part)
    spec.register_vocabulary([str(token) for token in range(config.vocab_size + 1)])
    spec.config.unk_token = spec.config.bos_token = spec.config.eos_token = str(config.vocab_size)
    return spec


def ctranslate2_generator(
    model: GPTModel, weights: str
) -> tuple[Callable[[Tensor, int], Tensor], int]:
    """A function (prompts (B, T), n) -> (B, T + n) that decodes greedily with CTranslate2 on the
    CPU, and the bytes of its weights in the format float32 or int8. No text ends before n tokens.
    """
    import ctranslate2

    spec = _ctranslate2_spec(model)
    spec.validate()
    spec.optimize(quantization=weights)
    with tempfile.TemporaryDirectory() as folder:
        spec.save(folder)
        n_bytes = (Path(folder) / "model.bin").stat().st_size
        generator = ctranslate2.Generator(
            folder,
            device="cpu",
            compute_type=weights,
            inter_threads=1,
            intra_threads=torch.get_num_threads(),
        )

    def generate(ids: Tensor, n: int) -> Tensor:
        prompts = [[str(token) for token in row] for row in ids.tolist()]
        results = generator.generate_batch(
            prompts, max_length=n, min_length=n, sampling_topk=1, include_prompt_in_result=False
        )
        return torch.cat(
            (ids, torch.tensor([result.sequences_ids[0] for result in results])), dim=1
        )

    return generate, n_bytes
