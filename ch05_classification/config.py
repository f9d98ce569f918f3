"""All settings of a classifier in one place: the command line, the training and the saved
checkpoint share them.
"""

import os
from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Literal

from tyro.conf import arg

from ch01_text.run import check_positive
from ch05_classification.classifier import Pooling, Trainable


@dataclass(frozen=True)
class ClassifierConfig:
    """Which rows a classifier learns from, which model it starts from, and how it is trained.

    ValueError if a value is out of range.
    """

    # ending, place, holder (storyworld), sms-spam, sms-spam-book, or a CSV, TSV or JSONL file.
    task: str = "ending"
    # Weights to start from. pretrained: the run's story model, or, for other texts, a small model
    # that chapter 4 pretrains on the training texts without their labels; scratch: untrained
    # weights; or a checkpoint folder, gpt2 to gpt2-xl, a Hugging Face repository.
    start: Annotated[str, arg(name="from")] = "pretrained"
    # Rank of the LoRA updates, trained together with the head; 0: no LoRA. Try --lr 0.002 with it.
    lora_rank: int = 0
    # Passes over the training rows, at most: training ends early when the validation loss stops
    # falling. By default what suits the task.
    epochs: float | None = None
    # Number of labelled texts to learn from; by default all.
    train_rows: int | None = None
    # Seed of the split, the stories and the weights.
    seed: int = 1337

    _: KW_ONLY  # the everyday flags stand above, the others below

    # Weights to train: all, the last block with norm and head, or the head alone.
    trainable: Trainable = "all"
    # The LoRA updates are multiplied by alpha / rank.
    lora_alpha: float = 16.0
    # The hidden state that the head reads: the last real token's, the first one's, the mean or the
    # maximum over all real tokens, or that of the last position, padding included.
    pooling: Pooling = "last"
    # Texts per batch.
    batch_size: int = 16
    # Peak learning rate of AdamW.
    lr: float = 5e-4
    # Weight the loss so that rare classes count as much as frequent ones.
    class_weights: bool = False
    # Validations per epoch.
    evals_per_epoch: float = 4
    # Stop after this many validations without a lower loss.
    patience: int = 6
    # Steps of pretraining on the training texts.
    pretrain_steps: int = 400
    # Number format of matrix products; auto takes bfloat16 if the device is fast at it.
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    # Of a table: the column of the texts.
    text_column: str = "text"
    # Of a table: the column of the labels.
    label_column: str = "label"
    # Another table to test on; by default 20 % of the first one are kept for that.
    test: str | None = None

    def __post_init__(self):
        check_positive(self, "epochs", "train_rows", "lora_alpha", "pretrain_steps")
        check_positive(self, "batch_size", "lr", "evals_per_epoch", "patience")
        if self.lora_rank < 0:
            raise ValueError(f"--lora-rank must be 0 (no LoRA) or more, not {self.lora_rank}")
        if self.lora_rank and self.trainable != "all":
            raise ValueError("--lora-rank freezes the model's own weights; leave --trainable out")
        for name in ("task", "start", "test"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, os.fspath(value))  # a Path becomes a string
