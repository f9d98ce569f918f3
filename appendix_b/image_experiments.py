"""Three experiments with digits: which classifier is best, what helps against overfitting, and what
transfers from one task to another.

Each is repeated over seeds; a seed determines the split, the initial weights and the batches.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from appendix_b.classifiers import cnn, mlp
from appendix_b.convolution import MaxPool2d
from appendix_b.digits import LabelledImages, load_images
from appendix_b.layers import Flatten, Linear
from appendix_b.nn import Sequential
from appendix_b.training import TrainConfig, predict_logits, train_classifier

MLP_CONFIG = TrainConfig(epochs=60)
CNN_CONFIG = TrainConfig(epochs=20)
FEW_IMAGES_CONFIG = TrainConfig(epochs=120, lr=3e-3, weight_decay=0.0, eval_every=4)
LAST_ONLY = 1000  # `eval_every` beyond the number of epochs: evaluate after the last one only
N_CLASSES = 5  # of the pretraining task (digits 0 to 4) and of the new task (5 to 9)

Builder = Callable[[np.random.Generator], Sequential]


def classifiers(image_size: int, n_classes: int) -> dict[str, tuple[Builder, TrainConfig]]:
    """Our classifiers by name: how each is built and how it is trained."""
    mlp_config, cnn_config = MLP_CONFIG, CNN_CONFIG
    if image_size == 28:  # MNIST has forty times as many images, so fewer passes are enough
        mlp_config, cnn_config = replace(MLP_CONFIG, epochs=6), replace(CNN_CONFIG, epochs=2)
    return {
        "logistic regression": (
            lambda rng: mlp(image_size, n_classes, rng, n_hidden=0),
            mlp_config,
        ),
        "MLP": (
            lambda rng: mlp(image_size, n_classes, rng, drop_rate=0.3, batch_norm=True),
            mlp_config,
        ),
        "CNN": (lambda rng: cnn(image_size, n_classes, rng), cnn_config),
    }


def sklearn_baselines(train: LabelledImages, test: LabelledImages) -> dict[str, float]:
    """The accuracy of two scikit-learn classifiers on the same test images; they are fitted to
    10,000 training images at most.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    models = {
        "logistic regression (scikit-learn)": LogisticRegression(max_iter=1000),
        "3 nearest neighbours (scikit-learn)": KNeighborsClassifier(3),
    }
    x_train, x_test = (images.x.reshape(len(images), -1) for images in (train, test))
    return {
        name: float(model.fit(x_train[:10_000], train.y[:10_000]).score(x_test, test.y))
        for name, model in models.items()
    }


def compare_classifiers(
    data: str, seeds: range, epochs: int | None = None
) -> tuple[pd.DataFrame, Sequential]:
    """One row per seed and classifier: test accuracy, and training seconds of ours; also the last
    CNN. `epochs` overrides that of every classifier.
    """
    rows = []
    for seed in seeds:
        train, test = load_images(data, seed)
        for name, accuracy in sklearn_baselines(train, test).items():
            rows.append({"classifier": name, "seed": seed, "accuracy": accuracy})
        for name, (build, config) in classifiers(train.x.shape[2], 10).items():
            rng = np.random.default_rng(seed)
            model = build(rng)
            config = replace(config, epochs=epochs or config.epochs, eval_every=LAST_ONLY)
            log = train_classifier(
                model, train, config, rng, {"test": test}, f"{name}, seed {seed}"
            )
            rows.append(
                {
                    "classifier": name,
                    "seed": seed,
                    "accuracy": log[-1]["test accuracy"],
                    "seconds": log[-1]["seconds"],
                }
            )
    return pd.DataFrame(rows), model


def corrupt_labels(labels: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Digit labels, of which a random `fraction` is replaced by a wrong digit."""
    wrong = (labels + rng.integers(1, 10, len(labels))) % 10  # never the true digit
    return np.where(rng.random(len(labels)) < fraction, wrong, labels)


REMEDIES = ("nothing", "dropout", "batch norm", "weight decay", "all three", "four times the data")


def regularisation(
    seed: int, n: int = 100, wrong: float = 0.15, epochs: int | None = None
) -> dict[str, list[dict]]:
    """Training curves of a wide MLP on `n` digits, without and with each remedy.

    A fraction `wrong` of the training labels is wrong. Such labels can only be memorised, which
    makes overfitting visible.
    """
    pool, val = load_images("digits", seed)
    rng = np.random.default_rng(seed)
    noisy = LabelledImages(pool.x, corrupt_labels(pool.y, wrong, rng))
    logs = {}
    for remedy in REMEDIES:
        used = ("dropout", "batch norm", "weight decay") if remedy == "all three" else (remedy,)
        rng = np.random.default_rng(seed)
        model = mlp(
            8,
            10,
            rng,
            hidden_size=256,
            drop_rate=0.5 if "dropout" in used else 0.0,
            batch_norm="batch norm" in used,
        )
        config = replace(
            FEW_IMAGES_CONFIG,
            weight_decay=1.0 if "weight decay" in used else 0.0,
            epochs=epochs or FEW_IMAGES_CONFIG.epochs,
        )
        train = noisy[: 4 * n if remedy == "four times the data" else n]
        logs[remedy] = train_classifier(model, train, config, rng, {"val": val}, remedy)
    return logs


def select_classes(images: LabelledImages, first: int, end: int) -> LabelledImages:
    """The images of classes first ... end - 1, relabelled from 0."""
    selected = images[(images.y >= first) & (images.y < end)]
    return LabelledImages(selected.x, selected.y - first)


def sample_per_class(images: LabelledImages, n: int, rng: np.random.Generator) -> LabelledImages:
    """`n` random images of each class."""
    rows = [rng.permutation(np.flatnonzero(images.y == label))[:n] for label in np.unique(images.y)]
    return images[np.concatenate(rows)]


def transfer(
    seeds: range, counts: tuple[int, ...] = (2, 10), epochs: int | None = None
) -> pd.DataFrame:
    """Pretrain a CNN on the digits 0 to 4, then train it on n images of each digit from 5 to 9.

    One row per seed, n, start (see `transfer_starts`) and evaluation: the epoch and the accuracy on
    test images of the new digits.
    """
    rows = []
    for seed in seeds:
        train, test = load_images("digits", seed)
        rng = np.random.default_rng(seed)
        pretrained = cnn(8, N_CLASSES, rng)
        config = replace(CNN_CONFIG, epochs=epochs or 15, eval_every=LAST_ONLY)
        old = select_classes(train, 0, N_CLASSES)
        train_classifier(pretrained, old, config, rng, label="pretraining")
        new, unseen = (select_classes(one, N_CLASSES, 2 * N_CLASSES) for one in (train, test))
        config = TrainConfig(epochs=epochs or 24, batch_size=10, eval_every=2)
        for n in counts:
            few = sample_per_class(new, n, np.random.default_rng(seed))
            starts = transfer_starts(pretrained, few, unseen, rng)
            for start, (model, few_inputs, test_inputs) in starts.items():
                log = train_classifier(
                    model, few_inputs, config, rng, {"new": test_inputs}, f"{start}, {n} of each"
                )
                rows += [
                    {
                        "seed": seed,
                        "images": n,
                        "start": start,
                        "epoch": row["epoch"],
                        "accuracy": row["new accuracy"],
                    }
                    for row in log
                ]
    return pd.DataFrame(rows)


def transfer_starts(
    pretrained: Sequential, few: LabelledImages, test: LabelledImages, rng: np.random.Generator
) -> dict[str, tuple[Sequential, LabelledImages, LabelledImages]]:
    """Three ways to start on a new task, each a model with its training and test inputs: from
    scratch; with all pretrained convolutions, to be fine-tuned; and a new linear layer on the
    frozen features of the first two convolutions. The layers after these are the most specific to
    the old task (Yosinski et al. 2014).
    """
    kinds = [type(layer) for layer in pretrained.layers]
    convolutions = pretrained.layers[: kinds.index(Flatten)]
    scratch, fine_tuned = (cnn(8, N_CLASSES, rng) for _ in range(2))
    for layer, source in zip(fine_tuned.layers, convolutions, strict=False):
        layer.load_state_dict(source.state_dict())
    # Frozen layers always give the same features: compute them once, train on them only.
    frozen = Sequential(*pretrained.layers[: kinds.index(MaxPool2d) + 1], Flatten())
    few_features, test_features = (
        LabelledImages(predict_logits(frozen, one.x), one.y) for one in (few, test)
    )
    head = Sequential(Linear(few_features.x.shape[1], N_CLASSES, rng))
    return {
        "from scratch": (scratch, few, test),
        "fine-tuned": (fine_tuned, few, test),
        "new layer on frozen ones": (head, few_features, test_features),
    }
