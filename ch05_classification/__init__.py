"""Chapter 5: text classification: head, fine-tuning, LoRA, baselines, error bars.

Its modules, in the order in which to read them: examples, sms, story_tasks, encoding, base_model,
classifier, ensemble, bidirectional, lora, fine_tuning, steps, scores, baselines, experiment,
ablations, plots, saved, book.
"""

from ch05_classification.baselines import fit_baselines
from ch05_classification.bidirectional import WholeText
from ch05_classification.book import (
    SpamDataset,
    calc_accuracy_loader,
    classify_review,
    plot_values,
    random_split,
    train_classifier_simple,
)
from ch05_classification.classifier import GPTClassifier, train_only
from ch05_classification.encoding import (
    Encoded,
    batches,
    collate,
    encode_examples,
    shuffled_batches,
)
from ch05_classification.examples import (
    Examples,
    Task,
    group_duplicates,
    make_task,
    read_table,
    split_rows,
)
from ch05_classification.experiment import STORIES, TEXTS, Recipe, Result, run_task, score_table
from ch05_classification.fine_tuning import (
    Plan,
    class_weights,
    classification_loss,
    fit,
    predict_logits,
)
from ch05_classification.lora import (
    LinearWithLoRA,
    LoRALayer,
    load_adapter,
    merge_lora,
    replace_linear_with_lora,
    save_adapter,
)
from ch05_classification.saved import classify, load_classifier, save_classifier
from ch05_classification.scores import (
    bootstrap,
    calibration_error,
    choose_threshold,
    fit_temperature,
    mcnemar,
    reliability,
    softmax,
)
from ch05_classification.sms import create_balanced_dataset, sms_table, sms_task
from ch05_classification.story_tasks import story_task

__all__ = [
    "STORIES",
    "TEXTS",
    "Encoded",
    "Examples",
    "GPTClassifier",
    "LinearWithLoRA",
    "LoRALayer",
    "Plan",
    "Recipe",
    "Result",
    "SpamDataset",
    "Task",
    "WholeText",
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
    "encode_examples",
    "fit",
    "fit_baselines",
    "fit_temperature",
    "group_duplicates",
    "load_adapter",
    "load_classifier",
    "make_task",
    "mcnemar",
    "merge_lora",
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
    "story_task",
    "train_classifier_simple",
    "train_only",
]
