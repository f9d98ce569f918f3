"""Instruction tuning: next-token prediction again, but only what the assistant says is learned."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ch03_gpt import GPTModel, Precision
from ch04_pretraining import SCHEDULES, TrainState, make_optimizers, train
from ch05_classification import replace_linear_with_lora
from ch06_instruction.batches import Batch, chat_batches, collate
from ch06_instruction.chat import EncodedChat
from ch06_instruction.log_probs import target_logits


@dataclass(frozen=True)
class Tuning:
    """How instruction tuning goes."""

    epochs: float = 1.0
    batch_size: int = 16
    optimizer: str = "muon"
    lr: float = 3e-3  # AdamW's peak
    muon_lr: float = 1e-2  # half of pretraining's
    weight_decay: float = 0.1
    lora_rank: int = 0  # 0: all weights learn
    lora_alpha: float = 32.0
    everything: bool = False  # learn the user's words, too
    seed: int = 0


def response_loss(model: GPTModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """A loss function for `train`: the sum of the losses of all learned tokens, and their
    number.
    """
    logits, wanted = target_logits(model, *batch)
    return F.cross_entropy(logits, wanted, reduction="sum"), torch.tensor(
        len(wanted), device=logits.device
    )


@torch.inference_mode()
def mean_response_loss(
    model: GPTModel,
    chats: Sequence[EncodedChat],
    pad_id: int,
    precision: Precision,
    batch_size: int = 32,
) -> float:
    """Mean loss of all learned tokens, in nats."""
    model.eval()
    total = count = 0.0
    for first in range(0, len(chats), batch_size):
        with precision.autocast():
            loss, n = response_loss(
                model, collate(chats[first : first + batch_size], pad_id, precision.device)
            )
        total, count = total + loss.item(), count + n.item()
    return total / count


def add_lora(model: GPTModel, rank: int, alpha: float) -> None:
    """Let only corrections of the blocks' matrices (chapter 5), and what reads and says the new
    tokens, learn. A model that has them is left as it is.
    """
    if any(".lora." in name for name, _ in model.named_parameters()):
        return
    replace_linear_with_lora(model.trf_blocks, rank, alpha)
    model.to(model.device).requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".lora." in name or name in ("tok_emb.weight", "out_head.weight"))


def tune(
    model: GPTModel,
    chats: Sequence[EncodedChat],
    validation: Sequence[EncodedChat],
    plan: Tuning,
    pad_id: int,
    precision: Precision,
    description: str = "instruction tuning",
) -> TrainState:
    """Train `model` in place on conversations; the log has the validation loss ten times."""
    torch.manual_seed(plan.seed)
    if plan.lora_rank:
        add_lora(model, plan.lora_rank, plan.lora_alpha)
    steps = max(1, round(plan.epochs * len(chats) / plan.batch_size))
    supply = chat_batches(
        chats,
        plan.batch_size,
        pad_id,
        np.random.default_rng(plan.seed),
        precision.device,
        plan.everything,
    )

    def evaluate(progress: TrainState) -> dict:
        loss = mean_response_loss(model, validation, pad_id, precision)
        model.train()
        return {"val_loss": loss}

    optimizer = "adamw" if plan.lora_rank else plan.optimizer
    return train(
        model,
        supply,
        response_loss,
        steps=steps,
        log_every=max(1, steps // 10),
        evaluate=evaluate,
        optimizers=make_optimizers(
            model, optimizer, plan.lr, plan.muon_lr, plan.weight_decay, precision.dtype
        ),
        schedule=SCHEDULES["wsd"](),
        precision=precision,
        description=description,
    )
