"""Chapter 5: text classification: head, fine-tuning, LoRA, baselines, error bars.

Its modules, in the order in which to read them: dataset, sms, story_tasks, encoding, classifier,
lora, config, base_model, fine_tuning, two_hop, metrics, baselines, checkpoint, experiment,
evaluation, ablations, plots, book.
"""

from ch05_classification.baselines import fit_baselines
from ch05_classification.book import (
    SpamDataset,
    calc_accuracy_loader,
    classify_review,
    plot_values,
    random_split,
    train_classifier_simple,
)
from ch05_classification.checkpoint import (
    ClassifierMetadata,
    classify,
    load_classifier,
    save_classifier,
)
from ch05_classification.classifier import GPTClassifier, freeze_except
from ch05_classification.config import ClassifierConfig
from ch05_classification.dataset import (
    LabelledTexts,
    Task,
    group_duplicates,
    make_task,
    read_table,
    split_rows,
)
from ch05_classification.encoding import (
    TokenizedDataset,
    batches,
    collate,
    shuffled_batches,
    tokenize,
)
from ch05_classification.evaluation import misclassified, score_table
from ch05_classification.experiment import Result, run_task
from ch05_classification.fine_tuning import (
    class_weights,
    classification_loss,
    predict_logits,
    train_classifier,
)
from ch05_classification.lora import (
    LinearWithLoRA,
    LoRALayer,
    load_adapter,
    merge_lora,
    replace_linear_with_lora,
    save_adapter,
)
from ch05_classification.metrics import (
    bootstrap,
    calibration_error,
    choose_threshold,
    fit_temperature,
    mcnemar,
    reliability,
    softmax,
)
from ch05_classification.sms import create_balanced_dataset, sms_table, sms_task

__all__ = [
    "ClassifierConfig",
    "ClassifierMetadata",
    "GPTClassifier",
    "LabelledTexts",
    "LinearWithLoRA",
    "LoRALayer",
    "Result",
    "SpamDataset",
    "Task",
    "TokenizedDataset",
    "batches",
    "bootstrap",
    "calc_accuracy_loader",
    "calibration_error",
    "choose_threshold",
    "class_weights",
    "classification_loss",
    "classify",
    "classify_review",
    "collate",
    "create_balanced_dataset",
    "fit_baselines",
    "fit_temperature",
    "freeze_except",
    "group_duplicates",
    "load_adapter",
    "load_classifier",
    "make_task",
    "mcnemar",
    "merge_lora",
    "misclassified",
    "plot_values",
    "predict_logits",
    "random_split",
    "read_table",
    "reliability",
    "replace_linear_with_lora",
    "run_task",
    "save_adapter",
    "save_classifier",
    "score_table",
    "shuffled_batches",
    "sms_table",
    "sms_task",
    "softmax",
    "split_rows",
    "tokenize",
    "train_classifier",
    "train_classifier_simple",
]
