"""What the digits teach: which classifier is how good, what overfitting looks like and what helps,
what transfers.

Each experiment is repeated over seeds, which draw the split, the weights and the batches.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from appendix_b.classifiers import cnn, mlp
from appendix_b.convolution import MaxPool
from appendix_b.digits import Images, load_images
from appendix_b.layers import Flatten, Linear
from appendix_b.nn import Sequential
from appendix_b.training import Plan, fit, logits_of

MLP_PLAN = Plan(epochs=60)
CNN_PLAN = Plan(epochs=20)
SMALL_PLAN = Plan(epochs=120, lr=3e-3, weight_decay=0.0, look_every=4)
OLD, NEW = 5, 5  # classes that the donor learned, and those that it did not


def networks(
    side: int, classes: int
) -> dict[str, tuple[Callable[[np.random.Generator], Sequential], Plan]]:
    """Our classifiers by name: how each is made, and its plan; fewer passes for the forty times
    as many of MNIST.
    """
    mlp_plan, cnn_plan = (
        (MLP_PLAN, CNN_PLAN)
        if side == 8
        else (replace(MLP_PLAN, epochs=6), replace(CNN_PLAN, epochs=2))
    )
    return {
        "logistic regression": (lambda rng: mlp(side, classes, rng, layers=0), mlp_plan),
        "MLP": (lambda rng: mlp(side, classes, rng, dropout=0.3, batch_norm=True), mlp_plan),
        "CNN": (lambda rng: cnn(side, classes, rng), cnn_plan),
    }


def peers(train: Images, test: Images) -> dict[str, float]:
    """The accuracy of scikit-learn's baselines on the same test rows; they learn from 10,000
    images at most.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    flat = [images.x.reshape(len(images), -1) for images in (train, test)]
    made = {
        "logistic regression (scikit-learn)": LogisticRegression(max_iter=1000),
        "3 nearest neighbours (scikit-learn)": KNeighborsClassifier(3),
    }
    fitted = {name: one.fit(flat[0][:10_000], train.y[:10_000]) for name, one in made.items()}
    return {name: float(one.score(flat[1], test.y)) for name, one in fitted.items()}


def compare_classifiers(
    data: str, seeds: range, epochs: int | None = None
) -> tuple[pd.DataFrame, Sequential]:
    """A row for each seed and classifier: accuracy on test images and training seconds; and the
    last CNN.

    `epochs` replaces that of every plan.
    """
    rows = []
    for seed in seeds:
        train, test = load_images(data, seed)
        rows += [
            {"classifier": name, "seed": seed, "accuracy": score}
            for name, score in peers(train, test).items()
        ]
        for name, (make, plan) in networks(train.x.shape[2], 10).items():
            rng = np.random.default_rng(seed)
            model = make(rng)
            plan = replace(plan, epochs=epochs or plan.epochs, look_every=1000)
            line = fit(model, train, plan, rng, {"test": test}, f"{name}, seed {seed}")[-1]
            rows.append(
                {
                    "classifier": name,
                    "seed": seed,
                    "accuracy": line["test accuracy"],
                    "seconds": line["seconds"],
                }
            )
    return pd.DataFrame(rows), model


REMEDIES = ("nothing", "dropout", "batch norm", "weight decay", "all three", "four times the data")


def regularisation(
    seed: int, n: int = 100, wrong: float = 0.15, epochs: int | None = None
) -> dict[str, list[dict]]:
    """Curves of a wide MLP on `n` digits, a share of whose labels is wrong, without and with each
    remedy.

    Wrong labels make overfitting visible: they can only be learned by heart.
    """
    pool, val = load_images("digits", seed)
    rng = np.random.default_rng(seed)
    spoiled = Images(
        pool.x, np.where(rng.random(len(pool)) < wrong, rng.integers(0, 10, len(pool)), pool.y)
    )
    logs = {}
    for remedy in REMEDIES:
        every = remedy == "all three"
        rng = np.random.default_rng(seed)
        model = mlp(
            8,
            10,
            rng,
            width=256,
            dropout=0.5 if remedy == "dropout" or every else 0.0,
            batch_norm=remedy == "batch norm" or every,
        )
        decay = 1.0 if remedy == "weight decay" or every else 0.0
        rows = slice(0, 4 * n if remedy == "four times the data" else n)
        plan = replace(SMALL_PLAN, weight_decay=decay, epochs=epochs or SMALL_PLAN.epochs)
        logs[remedy] = fit(model, spoiled[rows], plan, rng, {"val": val}, remedy)
    return logs


def of_classes(data: Images, first: int, end: int) -> Images:
    """The images of classes first ... end - 1, numbered from 0."""
    rows = data[(data.y >= first) & (data.y < end)]
    return Images(rows.x, rows.y - first)


def few_of_each(data: Images, count: int, rng: np.random.Generator) -> Images:
    """`count` images of each class, drawn by `rng`."""
    rows = [rng.permutation(np.flatnonzero(data.y == label))[:count] for label in np.unique(data.y)]
    return data[np.concatenate(rows)]


def transfer(
    seeds: range, counts: tuple[int, ...] = (2, 10), epochs: int | None = None
) -> pd.DataFrame:
    """A CNN learns 0 ... 4; how soon does it then learn 5 ... 9 from `counts` images of each? A row
    for each seed, count, start (see `starts`) and look: epoch and accuracy on unseen images of the
    new classes.
    """
    rows = []
    for seed in seeds:
        train, test = load_images("digits", seed)
        rng = np.random.default_rng(seed)
        donor = cnn(8, OLD, rng)
        plan = replace(CNN_PLAN, epochs=epochs or 15, look_every=1000)
        fit(donor, of_classes(train, 0, OLD), plan, rng, label="donor")
        unseen = [of_classes(images, OLD, OLD + NEW) for images in (train, test)]
        for count in counts:
            few = few_of_each(unseen[0], count, np.random.default_rng(seed))
            for start, (model, *images) in starts(donor, few, unseen[1], rng).items():
                plan = Plan(epochs=epochs or 24, batch_size=10, look_every=2)
                for line in fit(
                    model, images[0], plan, rng, {"new": images[1]}, f"{start}, {count} of each"
                ):
                    rows.append(
                        {
                            "seed": seed,
                            "images": count,
                            "start": start,
                            "epoch": line["epoch"],
                            "accuracy": line["new accuracy"],
                        }
                    )
    return pd.DataFrame(rows)


def starts(
    donor: Sequential, few: Images, test: Images, rng: np.random.Generator
) -> dict[str, tuple]:
    """Three ways to begin, each a model with the images to train and to test it on: from scratch;
    with all of the donor's convolutions; with a single new layer on the output of its first two,
    which stay as they are. What the last layers made of 0 ... 4 serves them alone (Yosinski et al.
    2014).
    """
    kinds = [type(layer) for layer in donor.layers]
    body = donor.layers[: kinds.index(Flatten)]
    scratch, tuned = (cnn(8, NEW, rng) for _ in range(2))
    for layer, other in zip(tuned.layers, body, strict=False):
        layer.load_state(other.state())
    frozen = Sequential(*donor.layers[: kinds.index(MaxPool) + 1], Flatten())
    features = [Images(logits_of(frozen, images.x), images.y) for images in (few, test)]
    return {
        "from scratch": (scratch, few, test),
        "fine-tuned": (tuned, few, test),
        "new layer on frozen ones": (
            Sequential(Linear(features[0].x.shape[1], NEW, rng)),
            *features,
        ),
    }
