"""Appendix B's experiments and command on small budgets, against scikit-learn, PyTorch and closed
forms.
"""

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from appendix_b import chat
from appendix_b.classifiers import cnn, mlp
from appendix_b.digits import MNIST, LabelledImages, load_images
from appendix_b.image_experiments import (
    corrupt_labels,
    sample_per_class,
    select_classes,
    transfer_starts,
)
from appendix_b.main import ExperimentConfig, main
from appendix_b.regression import fit_binary_classifier, fit_line, least_squares, noisy_line
from appendix_b.small_talk import KINDS, collate, conversations
from appendix_b.tensor import Tensor
from appendix_b.text_models import (
    TextTrainConfig,
    build_models,
    evaluate_loss,
    random_windows,
    train_language_model,
)
from appendix_b.training import (
    TrainConfig,
    evaluate,
    predict_logits,
    shuffled_batches,
    train_classifier,
)
from ch01_text import DOWNLOADS

ROOT = Path(__file__).parent.parent


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_gradient_descent_finds_what_closed_forms_and_scikit_learn_find():
    x, y = noisy_line(40, generator())
    line, _ = fit_line(x, y, generator())
    np.testing.assert_allclose(
        [line.weight.data.item(), line.bias.data.item()], least_squares(x, y), atol=1e-5
    )
    points = generator(1).normal(size=(200, 2))
    labels = (points @ [1.0, -2.0] + generator(2).normal(size=200) > 0).astype(int)
    ours = fit_binary_classifier(
        points.astype(np.float32), labels, generator(), l2=1 / 200, steps=800
    ).layers[0]
    # C = 1 / (l2 * number of points)
    theirs = LogisticRegression(C=1.0, tol=1e-8).fit(points, labels)
    np.testing.assert_allclose(ours.weight.data.ravel(), theirs.coef_.ravel(), atol=2e-3)
    np.testing.assert_allclose(ours.bias.data, theirs.intercept_, atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "epochs", "least"),
    [
        (lambda rng: mlp(8, 10, rng, drop_rate=0.3, batch_norm=True), 30, 0.97),
        (lambda rng: cnn(8, 10, rng), 10, 0.975),
    ],
)
def test_digits_are_learned(make, epochs, least):
    """At most half of the usual epochs; scikit-learn's logistic regression reaches about 0.96."""
    train, test = load_images("digits", 0)
    log = train_classifier(
        model := make(generator()),
        train,
        TrainConfig(epochs=epochs, eval_every=5),
        generator(),
        {"test": test},
    )
    assert log[-1]["test accuracy"] >= least
    assert evaluate(model, test)[1] == log[-1]["test accuracy"]
    assert log[-1]["train loss"] < log[0]["train loss"]


def test_splits_are_stratified_and_disjoint():
    train, test = load_images("digits", 3)
    together = np.concatenate([train.x, test.x])
    assert len(np.unique(together.reshape(len(together), -1), axis=0)) == len(together) == 1797
    shares = np.bincount(test.y) / (np.bincount(test.y) + np.bincount(train.y))
    assert np.abs(shares - 0.2).max() < 0.01
    assert (train.x.min(), train.x.max(), train.x.dtype) == (-1, 1, np.float32)
    few = sample_per_class(select_classes(train, 5, 10), 3, generator())
    assert np.bincount(few.y).tolist() == [3] * 5


def test_corrupted_labels_are_wrong():
    labels = np.arange(2000) % 10
    corrupted = corrupt_labels(labels, 1.0, generator())
    assert (corrupted != labels).all()
    assert set(corrupted) == set(range(10))
    changed = (corrupt_labels(labels, 0.15, generator()) != labels).mean()
    assert abs(changed - 0.15) < 5 * np.sqrt(0.15 * 0.85 / 2000)


def test_every_row_comes_once_an_epoch():
    rows = np.concatenate(list(shuffled_batches(20, 5, generator())))
    assert sorted(rows) == list(range(20))
    assert [len(one) for one in shuffled_batches(3, 3, generator())] == [3]


def test_measuring_keeps_the_mode_and_ignores_dropout():
    """Oracle: PyTorch's cross-entropy of the same logits."""
    model = mlp(8, 10, generator(), drop_rate=0.5, batch_norm=True)
    images = LabelledImages(generator().normal(size=(7, 1, 8, 8)).astype(np.float32), np.arange(7))
    loss, accuracy = evaluate(model, images)
    assert model.training
    logits = torch.tensor(predict_logits(model, images.x))
    assert loss == pytest.approx(F.cross_entropy(logits, torch.tensor(images.y)).item(), rel=1e-5)
    assert accuracy == (logits.argmax(1).numpy() == images.y).mean()


def test_what_transfers_is_the_pretrained_part():
    pretrained = cnn(8, 5, generator())
    images = LabelledImages(
        generator().normal(size=(10, 1, 8, 8)).astype(np.float32), np.arange(10) % 5
    )
    ways = transfer_starts(pretrained, images, images, generator(1))
    for start, equal in (
        ("fine-tuned", [True, True, True, False, False]),
        ("from scratch", [False] * 5),
    ):
        state = ways[start][0].state_dict()
        weights = [name for name in state if name.endswith("weight")]
        assert [
            np.array_equal(state[name], pretrained.state_dict()[name]) for name in weights
        ] == equal, start
    by_hand = Tensor(images.x)
    for layer in pretrained.eval().layers[:7]:
        by_hand = layer(by_hand)
    np.testing.assert_allclose(
        ways["new layer on frozen ones"][1].x, by_hand.data.reshape(10, -1), rtol=1e-5, atol=1e-6
    )


def test_mnist_is_fetched_by_checksum(tmp_path, monkeypatch):
    """A local file of the right name but another content is refused; nothing is downloaded."""
    (tmp_path / "mnist.npz").write_bytes(b"not it")
    monkeypatch.setenv("LLM_COMPANION_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="is not the expected file"):
        load_images("mnist", 0)
    path = tmp_path / "small.npz"
    arrays = {
        "x_train": np.full((3, 28, 28), 255, dtype=np.uint8),
        "y_train": np.arange(3, dtype=np.uint8),
        "x_test": np.zeros((2, 28, 28), dtype=np.uint8),
        "y_test": np.arange(2, dtype=np.uint8),
    }
    np.savez(path, **arrays)
    monkeypatch.setattr("appendix_b.digits.fetch", lambda wanted: path)
    train, test = load_images("mnist", 0)
    assert (train.x.shape, test.x.shape) == ((3, 1, 28, 28), (2, 1, 28, 28))
    assert (train.x.max(), test.x.min()) == (1, -1)
    assert cnn(28, 10, generator())(Tensor(train.x)).shape == (3, 10)
    assert len(MNIST.sha256) == 64
    assert MNIST not in DOWNLOADS.values()


@pytest.mark.parametrize("name", ["RNN", "LSTM", "transformer"])
def test_text_models_learn_a_cycle(name):
    """Ten ids in a fixed order: guessing costs log(10) = 2.3 nats, knowing the order costs 0."""
    ids = np.arange(2000) % 10
    held_out = random_windows(ids, 12, 16)(generator(9))
    np.testing.assert_array_equal(held_out.targets, (held_out.ids + 1) % 10)
    model = build_models(10, 12, generator())[name]
    assert 85_000 < build_models(67, 64, generator())[name].n_parameters() < 115_000
    log = train_language_model(
        model,
        random_windows(ids, 12, 16),
        held_out,
        TextTrainConfig(lr=5e-3, steps=60, n_evals=3),
        generator(),
    )
    assert [line["step"] for line in log] == [20, 40, 60]
    assert log[-1]["tokens"] == 60 * 16 * 12
    assert log[-1]["val_loss"] < 0.3
    logits = torch.tensor(model(held_out.ids).data)
    expected = F.cross_entropy(
        logits.flatten(0, 1), torch.tensor(held_out.targets).flatten()
    ).item()
    assert evaluate_loss(model, held_out, batch_size=5) == pytest.approx(expected, rel=1e-4)


def test_small_talk_is_true_and_its_pairs_are_apart():
    """Oracle: the answer can be read off the prompt; no pair of the test set occurs in training."""
    training, test = (
        list(islice(conversations(generator(), split), 1500)) for split in ("train", "test")
    )
    for talk in test:
        words = talk.prompt.rstrip("?.").split()
        if talk.kind == "sum":
            assert int(talk.answer.split()[-1].rstrip(".")) == int(words[2]) + int(words[4])
        elif talk.kind == "greeting":
            assert talk.answer == f"Hello, {words[-1]}!"
        else:
            assert (talk.answer in talk.prompt) is (talk.kind != "unknown")
            assert talk.kind != "unknown" or talk.prompt.count(words[-1]) == 1
    answers = [
        {talk.answer for talk in part if talk.kind in ("where", "who", "greeting")}
        for part in (training, test)
    ]
    assert not answers[0] & answers[1]
    assert {talk.kind for talk in training} == set(KINDS)


def test_only_answers_count():
    tokenizer, *_ = chat.prepare_stories(20, 0)
    talks = list(islice(conversations(generator()), 8))
    batch = collate(talks, tokenizer)
    for row, talk in enumerate(talks):
        counted = batch.targets[row][batch.weights[row] == 1].tolist()
        assert counted[-1] == tokenizer.eot_id
        assert tokenizer.decode(counted[:-1]) == talk.answer


def test_answers_together_are_answers_alone():
    """Prompts of several lengths; an answer ends at its end-of-text token."""
    tokenizer, *_ = chat.prepare_stories(20, 0)
    model = chat.GPT(chat.GPTConfig(tokenizer.n_vocab, 64, 16, 2, 1), generator()).eval()
    talks = list(islice(conversations(generator()), 6))
    wanted = [talk.answer for talk in talks]
    val = collate(talks, tokenizer)
    train_language_model(
        model, lambda rng: val, val, TextTrainConfig(lr=0.02, steps=150), generator()
    )
    prompts = [talk.prompt for talk in talks]
    together = chat.answer_prompts(model, tokenizer, prompts, generator(), temperature=0.0)
    alone = [
        chat.answer_prompts(model, tokenizer, [one], generator(), temperature=0.0)[0]
        for one in prompts
    ]
    assert together == wanted == alone
    assert chat.exact_match(model, tokenizer, talks)["all"] == 1.0
    assert chat.majority_baseline([*talks, *talks[:1]]) >= 2 / 7
    with pytest.raises(ValueError, match="the context 64; shorten the prompt"):
        chat.answer_prompts(model, tokenizer, ["kite " * 80], generator())


def run(*arguments: str, ok: bool = True) -> subprocess.CompletedProcess:
    result = subprocess.run(
        [sys.executable, "appendix_b/main.py", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode == 0) is ok, result.stderr
    return result


@pytest.mark.slow
def test_the_command_does_everything_and_then_chats(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 200, encoding="utf-8")
    run("--run", tmp_path, "--epochs", "1", "--seeds", "1", "--steps", "3", "--text", text)
    folder = tmp_path / "appendix_b"
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert set(metrics) == {
        "regression",
        "digits",
        "regularisation",
        "transfer",
        "text",
        "gpt",
        "speed",
        "wall_seconds",
    }
    assert metrics["regression"]["line_max_difference"] < 1e-4
    assert metrics["text"]["LSTM"]["step"] == 3
    assert {path.name for path in folder.iterdir()} == {
        "metrics.json",
        "gpt.npz",
        "tokenizer.json",
        "tokenizer_config.json",
        *(
            f"{name}.png"
            for name in (
                "regression",
                "digits",
                "filters",
                "regularisation",
                "transfer",
                "text",
                "gpt",
            )
        ),
    }
    said = run("--run", tmp_path, "--ask", "Hello, I am Maya.").stdout
    model, tokenizer = chat.load_chat(folder)
    again = chat.answer_prompts(
        model, tokenizer, ["Hello, I am Maya."], generator(), temperature=0.0
    )
    assert [said.removesuffix("\n")] == again
    assert len(main(ask="Who has the kite?", run=tmp_path)["answers"]) == 1


@pytest.mark.slow
def test_wrong_input_is_refused_in_one_line(tmp_path):
    error = run("--experiment", "text", "--text", "nope", "--run", tmp_path, ok=False).stderr
    assert error.startswith("error: there is no text 'nope'")
    assert error.count("\n") == 1


def test_refusals_name_the_remedy(tmp_path):
    with pytest.raises(ValueError, match="--seeds must be a positive number, not 0"):
        main(ExperimentConfig(seeds=0), run=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no saved model .*train one first"):
        main(ask="Hello", run=tmp_path)
    with pytest.raises(
        ValueError, match="the text has 5 tokens, one window needs 9; take a longer text"
    ):
        random_windows(np.arange(5), 8, 1)
