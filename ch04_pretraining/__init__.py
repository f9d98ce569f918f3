"""Chapter 4: the training loop, checkpoints, pretrained weights, loss curves.

Its modules, in the order in which to read them: training, loss, chunked_loss, answer_loss, muon,
optimizer, schedule, corpus, recipes, checkpoint, parallel, allocator, probe, plots,
tensorboard_log, memorisation, questions, experiment, hf_format, hf_weights, book.
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
from ch04_pretraining.corpus import Corpus, load_corpus
from ch04_pretraining.hf_weights import (
    ensure_pretrained,
    from_pretrained,
    save_pretrained,
    tokenizer_of,
)
from ch04_pretraining.loss import IGNORE, bits_per_byte, evaluate_loss, next_token_loss
from ch04_pretraining.optimizer import make_optimizers, set_learning_rate
from ch04_pretraining.plots import draw_dashboard, draw_losses, draw_samples, plot_losses
from ch04_pretraining.schedule import SCHEDULES, trapezoid, warmup_cosine
from ch04_pretraining.training import Progress, train

__all__ = [
    "IGNORE",
    "SCHEDULES",
    "Corpus",
    "Progress",
    "bits_per_byte",
    "calc_loss_batch",
    "calc_loss_loader",
    "draw_dashboard",
    "draw_losses",
    "draw_samples",
    "ensure_pretrained",
    "evaluate_loss",
    "find_checkpoint",
    "from_pretrained",
    "generate",
    "load_checkpoint",
    "load_corpus",
    "load_weights_into_gpt",
    "make_optimizers",
    "next_token_loss",
    "plot_losses",
    "save_checkpoint",
    "save_pretrained",
    "set_learning_rate",
    "text_to_token_ids",
    "token_ids_to_text",
    "tokenizer_of",
    "train",
    "train_model_simple",
    "trapezoid",
    "warmup_cosine",
]
