"""The names of the book's pretraining chapter, as thin wrappers of this project's functions."""

from collections.abc import Mapping
from itertools import chain, islice, repeat

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from ch03_gpt import GPTModel, stream
from ch04_pretraining.hf_weights import load_hf_tensors
from ch04_pretraining.loss import evaluate_loss, next_token_loss
from ch04_pretraining.training import TrainOptions, TrainState, train


def text_to_token_ids(text: str, tokenizer) -> Tensor:
    """Text -> (1, T) int64 ids; `<|endoftext|>` in it becomes the special token."""
    return torch.tensor(tokenizer.encode(text, allowed_special={"<|endoftext|>"})).unsqueeze(0)


def token_ids_to_text(token_ids: Tensor, tokenizer) -> str:
    """(1, T) ids -> text."""
    return tokenizer.decode(token_ids.squeeze(0).tolist())


def generate(
    model: GPTModel,
    idx: Tensor,
    max_new_tokens: int,
    context_size: int | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    eos_id: int | None = None,
) -> Tensor:
    """`ch03_gpt.generate` with the book's arguments: ids (1, T) -> (1, T + new), without
    `eos_id`.
    """
    window = idx[:, -context_size:] if context_size else idx
    stop_ids = () if eos_id is None else (eos_id,)
    new = list(
        stream(
            model,
            window,
            max_new_tokens,
            stop_ids=stop_ids,
            temperature=temperature,
            top_k=top_k if temperature > 0 else None,  # the most likely token is among any k
        )
    )
    if new and eos_id is not None and new[-1][0] == eos_id:
        new.pop()
    return torch.cat((idx, *new), dim=1)


def calc_loss_batch(input_batch: Tensor, target_batch: Tensor, model: nn.Module, device) -> Tensor:
    """Two (B, T) tensors of ids -> mean cross-entropy (nats per token), a scalar with gradient."""
    total, count = next_token_loss(model, (input_batch.to(device), target_batch.to(device)))
    return total / count


def calc_loss_loader(
    data_loader: DataLoader, model: nn.Module, device, num_batches: int | None = None
) -> float:
    """Mean loss over the tokens of the first `num_batches` batches (all by default); NaN without
    any.
    """
    batches = [(x.to(device), y.to(device)) for x, y in islice(data_loader, num_batches)]
    return evaluate_loss(model, batches)[0] if batches else float("nan")


def train_model_simple(
    model: GPTModel,
    train_loader: DataLoader,
    val_loader: DataLoader,
    optimizer: Optimizer,
    device,
    num_epochs: int,
    eval_freq: int,
    eval_iter: int,
    start_context: str,
    tokenizer,
) -> tuple[list[float], list[float], list[int]]:
    """The book's first loop: constant learning rate, no clipping, a sample after every epoch.

    Returns (training losses, validation losses, tokens seen), one of each every `eval_freq` steps.
    """
    train_losses, val_losses, tokens_seen = [], [], []

    def evaluate(state: TrainState) -> dict:
        if (state.step - 1) % eval_freq == 0:
            train_losses.append(calc_loss_loader(train_loader, model, device, eval_iter))
            val_losses.append(calc_loss_loader(val_loader, model, device, eval_iter))
            tokens_seen.append(state.tokens)
            print(
                f"step {state.step - 1:06d}: training loss {train_losses[-1]:.3f}, "
                f"validation loss {val_losses[-1]:.3f}"
            )
        if state.step % len(train_loader) == 0:
            ids = text_to_token_ids(start_context, tokenizer).to(device)
            print(token_ids_to_text(generate(model, ids, 50), tokenizer).replace("\n", " "))
        return {}

    epochs = chain.from_iterable(repeat(train_loader, num_epochs))
    batches = ((inputs.to(device), targets.to(device)) for inputs, targets in epochs)
    train(
        model,
        batches,
        steps=num_epochs * len(train_loader),
        optimizers=[optimizer],
        options=TrainOptions(
            max_norm=None, schedule=lambda progress: 1.0, log_every=1, evaluate=evaluate
        ),
    )
    return train_losses, val_losses, tokens_seen


def load_weights_into_gpt(gpt: GPTModel, params: Mapping) -> None:
    """Copy GPT-2's weights out of the book's nested dictionary of arrays (`wte`, `wpe`,
    `blocks`, `g`, `b`).
    """
    tensors = {
        "wte.weight": params["wte"],
        "wpe.weight": params["wpe"],
        "ln_f.weight": params["g"],
        "ln_f.bias": params["b"],
    }
    for i, block in enumerate(params["blocks"]):
        for norm in ("ln_1", "ln_2"):
            tensors |= {
                f"h.{i}.{norm}.weight": block[norm]["g"],
                f"h.{i}.{norm}.bias": block[norm]["b"],
            }
        for part, layer in (
            ("attn", "c_attn"),
            ("attn", "c_proj"),
            ("mlp", "c_fc"),
            ("mlp", "c_proj"),
        ):
            tensors |= {
                f"h.{i}.{part}.{layer}.weight": block[part][layer]["w"],
                f"h.{i}.{part}.{layer}.bias": block[part][layer]["b"],
            }
    load_hf_tensors(gpt, {name: torch.as_tensor(array) for name, array in tensors.items()})
