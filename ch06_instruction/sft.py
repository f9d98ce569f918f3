"""Instruction tuning (supervised fine-tuning): next-token prediction on the assistant's words only.

    L = -sum over t of s_t log p(x_t | x_<t)  /  sum over t of s_t

s_t is 1 where the token is the assistant's (`EncodedChat.assistant_mask`) and 0 elsewhere. With
LoRA (chapter 5) only the adapters and the embeddings are trained; the new role tokens need these.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from ch03_gpt import GPTModel, Precision
from ch04_pretraining import (
    SCHEDULES,
    TrainOptions,
    TrainState,
    evaluate_loss,
    make_optimizers,
    train,
)
from ch05_classification import merge_lora, replace_linear_with_lora
from ch06_instruction.batches import Batch, chat_batches, collate
from ch06_instruction.chat import EncodedChat
from ch06_instruction.config import SFTConfig
from ch06_instruction.log_probs import target_logits


def response_loss(model: GPTModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """A loss function for `train`: sum of losses and number of target tokens."""
    # (n, V), (n,): only the n targets that are learned
    logits, ids = target_logits(model, *batch)
    # A sum, which `train` divides by the number of learned tokens of the whole step: a token weighs
    # the same in short and in long answers.
    return F.cross_entropy(logits, ids, reduction="sum"), torch.tensor(
        len(ids), device=logits.device
    )


def mean_response_loss(
    model: GPTModel,
    chats: Sequence[EncodedChat],
    pad_id: int,
    precision: Precision,
    batch_size: int = 32,
) -> float:
    """Mean loss of a target token, in nats."""
    batches = (
        collate(chats[first : first + batch_size], pad_id, precision.device)
        for first in range(0, len(chats), batch_size)
    )
    return evaluate_loss(model, batches, precision, response_loss)[0]


def add_lora(model: GPTModel, rank: int, alpha: float) -> None:
    """Put adapters on the matrices of the blocks; only they and the embeddings learn."""
    replace_linear_with_lora(model.trf_blocks, rank, alpha)
    # New adapters are on the CPU. Freeze everything, then let adapters and embeddings learn.
    model.to(model.device).requires_grad_(False)
    # a tied output head has no entry of its own; it learns as tok_emb.weight
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".lora." in name or name in ("tok_emb.weight", "out_head.weight"))


def sft_optimizers(model: GPTModel, config: SFTConfig, dtype: torch.dtype) -> list[Optimizer]:
    """The optimizers that a recipe asks for."""
    return make_optimizers(
        model, config.chosen_optimizer, config.lr, config.muon_lr, config.weight_decay, dtype
    )


def train_sft(
    model: GPTModel,
    chats: Sequence[EncodedChat],
    validation: Sequence[EncodedChat],
    config: SFTConfig,
    pad_id: int,
    precision: Precision,
    seed: int = 0,
) -> TrainState:
    """Train `model` in place on conversations; the log has the validation loss some ten times.

    LoRA's adapters are merged at the end: the model has the layers that it had before.
    """
    torch.manual_seed(seed)  # for the adapters' A and for dropout
    if config.lora_rank:
        add_lora(model, config.lora_rank, config.lora_alpha)
    # `epochs` may be a fraction, because batches come without end
    steps = max(1, round(config.epochs * len(chats) / config.batch_size))
    generator = np.random.default_rng(seed)

    def evaluate(progress: TrainState) -> dict:
        return {"val_loss": mean_response_loss(model, validation, pad_id, precision)}

    progress = train(
        model,
        chat_batches(
            chats, config.batch_size, pad_id, generator, precision.device, config.train_on_prompt
        ),
        response_loss,
        steps=steps,
        # made after `add_lora`, so that they find the adapters
        optimizers=sft_optimizers(model, config, precision.dtype),
        precision=precision,
        options=TrainOptions(
            # `evaluate` runs at each log step
            log_every=max(1, steps // 10),
            evaluate=evaluate,
            schedule=SCHEDULES["wsd"](),
            description="instruction tuning",
        ),
    )
    if config.lora_rank:
        merge_lora(model)
        # `add_lora` froze everything but the embeddings
        model.requires_grad_(True)
    return progress
