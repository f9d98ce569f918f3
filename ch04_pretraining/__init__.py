"""Chapter 4: the training loop, checkpoints, pretrained weights, loss curves.

Its modules, in the order in which to read them: training, loss, muon, optimizer, schedule, dataset,
config, checkpoint, parallel, allocator, layer_monitor, plots, tensorboard_log, memorisation,
trainer, hf_format, hf_weights, pretraining, intervals, story_corpus, book.
"""

from ch04_pretraining.book import (
    calc_loss_batch,
    calc_loss_loader,
    generate,
    load_weights_into_gpt,
    text_to_token_ids,
    token_ids_to_text,
    train_model_simple,
)
from ch04_pretraining.checkpoint import find_checkpoint, load_checkpoint, save_checkpoint
from ch04_pretraining.config import RECIPES, PretrainConfig, fill_in
from ch04_pretraining.dataset import TokenDataset, load_dataset
from ch04_pretraining.hf_weights import from_pretrained, save_pretrained, tokenizer_of
from ch04_pretraining.intervals import wilson_interval
from ch04_pretraining.layer_monitor import LayerMonitor
from ch04_pretraining.loss import bits_per_byte, evaluate_loss, next_token_loss, token_losses
from ch04_pretraining.optimizer import make_optimizers, set_learning_rate
from ch04_pretraining.plots import draw_dashboard, draw_losses, draw_samples, plot_losses
from ch04_pretraining.pretraining import ensure_pretrained, pretrain
from ch04_pretraining.schedule import SCHEDULES, warmup_cosine, warmup_stable_decay
from ch04_pretraining.trainer import Trainer
from ch04_pretraining.training import TrainOptions, TrainState, train

__all__ = [
    "RECIPES",
    "SCHEDULES",
    "LayerMonitor",
    "PretrainConfig",
    "TokenDataset",
    "TrainOptions",
    "TrainState",
    "Trainer",
    "bits_per_byte",
    "calc_loss_batch",
    "calc_loss_loader",
    "draw_dashboard",
    "draw_losses",
    "draw_samples",
    "ensure_pretrained",
    "evaluate_loss",
    "fill_in",
    "find_checkpoint",
    "from_pretrained",
    "generate",
    "load_checkpoint",
    "load_dataset",
    "load_weights_into_gpt",
    "make_optimizers",
    "next_token_loss",
    "plot_losses",
    "pretrain",
    "save_checkpoint",
    "save_pretrained",
    "set_learning_rate",
    "text_to_token_ids",
    "token_ids_to_text",
    "token_losses",
    "tokenizer_of",
    "train",
    "train_model_simple",
    "warmup_cosine",
    "warmup_stable_decay",
    "wilson_interval",
]
