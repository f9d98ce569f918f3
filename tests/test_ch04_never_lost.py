"""Crashes: killed twenty times in one run, killed at every step of a save, a full disk, a loss that
    explodes.

Oracle: the run that nothing happened to, bit for bit; for a save, one of the two checkpoints whole.
"""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ch01_text import CharTokenizer
from ch03_gpt import GPTConfig, GPTModel
from ch04_pretraining import TrainOptions, load_checkpoint, save_checkpoint, train
from ch04_pretraining.checkpoint import find_checkpoint

try:
    import resource
except ImportError:  # Windows
    resource = None

ROOT = Path(__file__).parent.parent
TOKENIZER = CharTokenizer.train("abc")
TINY = GPTConfig(vocab_size=TOKENIZER.n_vocab, context_length=8, emb_dim=16, n_heads=2, n_layers=1)

FORKS = """
import contextlib, os, random, signal, sys, traceback
from pathlib import Path
import torch
torch.set_num_threads(1)  # forked children share no threads
OPERATIONS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}  # Python's audit events

def fork(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    return pid

def wait(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def run_script(body: str, *arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", FORKS + textwrap.dedent(body), *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes")
def test_twenty_kills_change_nothing(tmp_path):
    """Each life ends just before some file operation, of the log after ten steps or of a save.
    Resumed each time, the run ends like the undisturbed one.
    """
    text = tmp_path / "text.txt"
    text.write_text(
        "It is a truth universally acknowledged, that tests want texts. " * 400, encoding="utf-8"
    )
    result = run_script(
        """
        import torch._dynamo  # optimizers load it: once for all lives
        from ch04_pretraining.config import PretrainConfig
        from ch04_pretraining.main import main

        text, whole, cut = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
        folder = cut / "ch04_pretraining"

        def training(run, resume, die_at=0):
            seen = 0

            def hook(event, args):
                nonlocal seen
                if event in OPERATIONS and str(args[0]).startswith(str(folder)):
                    seen += 1
                    if seen == die_at:
                        os.kill(os.getpid(), signal.SIGKILL)

            def work():
                sys.addaudithook(hook)
                with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
                    config = PretrainConfig(text, tokenizer="char", preset="tiny", steps=300, batch_size=4)
                    main(config, resume=resume, run=run)
            return work

        def has_checkpoint():
            return any((folder / name).exists() for name in ("checkpoint", "checkpoint.old"))

        assert wait(fork(training(whole, False))) == 0
        draw, in_saves = random.Random(0), 0
        for kills in range(20):
            code = wait(fork(training(cut, has_checkpoint(), draw.randint(9, 110))))
            assert code == -signal.SIGKILL, f"ended with {code} after {kills} kills"
            in_saves += any((folder / f"{name}.tmp").exists() for name in ("best", "checkpoint"))
        assert has_checkpoint()
        assert wait(fork(training(cut, True))) == 0
        print(in_saves)
    """,
        text,
        tmp_path / "whole",
        tmp_path / "cut",
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert int(result.stdout.split()[-1]) >= 8
    ends = [tmp_path / name / "ch04_pretraining" for name in ("whole", "cut")]
    for kind in ("checkpoint", "best"):
        whole, cut = (load_file(end / kind / "model.safetensors") for end in ends)
        assert all(torch.equal(whole[name], cut[name]) for name in whole)
    logs = [
        [
            json.loads(line) | {"seconds": 0}
            for line in (end / "log.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        for end in ends
    ]
    assert logs[0] == logs[1]
    assert len(logs[0]) == 30
    left = {path.name for path in ends[1].iterdir()}
    assert not {name for name in left if name.endswith((".tmp", ".old"))}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes")
def test_a_kill_at_any_moment_of_a_save_leaves_a_whole_checkpoint(tmp_path):
    """One child for every file operation of a save (Python's audit events): it dies just before
    that one.
    """
    result = run_script(
        """
        from safetensors.torch import load_file
        from ch01_text import CharTokenizer
        from ch03_gpt import GPTConfig, GPTModel
        from ch04_pretraining import load_checkpoint, save_checkpoint

        tokenizer, folder = CharTokenizer.train("abc"), Path(sys.argv[1]) / "c"
        config = GPTConfig(vocab_size=tokenizer.n_vocab, context_length=8, emb_dim=16, n_heads=2, n_layers=1)
        models = [GPTModel(config), GPTModel(config)]
        expected = [model.tok_emb.weight.sum().item() for model in models]
        save_checkpoint(folder, models[0], tokenizer, {"number": 0})
        outcomes, deaths = [], 0
        while True:
            def save(die_at=deaths + 1):
                seen = 0
                def hook(event, args):
                    nonlocal seen
                    if event in OPERATIONS:
                        seen += 1
                        if seen == die_at:
                            os.kill(os.getpid(), signal.SIGKILL)
                sys.addaudithook(hook)
                save_checkpoint(folder, models[1], tokenizer, {"number": 1})
            code = wait(fork(save))
            model, _ = load_checkpoint(folder)
            number = expected.index(model.tok_emb.weight.sum().item())
            place = folder if folder.exists() else folder.with_name("c.old")
            assert torch.load(place / "train_state.pt")["number"] == number
            if code == 0:
                break
            assert code == -signal.SIGKILL, code
            outcomes.append(number)
            deaths += 1
            if deaths % 2:  # from a clean state, and from what the crash left
                save_checkpoint(folder, models[0], tokenizer, {"number": 0})
        left = sorted(path.name for path in folder.parent.iterdir())
        print(deaths, outcomes.count(0), outcomes.count(1), left == ["c"])
    """,
        tmp_path,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    deaths, old, new, clean = result.stdout.split()
    assert int(deaths) > 15
    assert int(old) > 5
    assert int(new) > 2
    assert clean == "True"


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="limits the size of files")
def test_a_full_disk_is_one_clear_error_and_keeps_the_checkpoint(tmp_path):
    """A limit on the size of files makes the system refuse the write as a full disk does."""
    model = GPTModel(TINY)
    save_checkpoint(tmp_path / "c", model, TOKENIZER)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(
            OSError, match=r"cannot save .*MiB free\); the previous checkpoint is intact"
        ):
            save_checkpoint(tmp_path / "c", GPTModel(TINY), TOKENIZER)
        with pytest.raises(
            OSError, match="there is no earlier one; make room or choose another folder with --run"
        ):
            save_checkpoint(tmp_path / "d", GPTModel(TINY), TOKENIZER)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    loaded, _ = load_checkpoint(tmp_path / "c")
    assert torch.equal(loaded.tok_emb.weight, model.tok_emb.weight)


def test_what_a_crash_left_is_never_removed_before_something_better_stands(tmp_path, monkeypatch):
    """After a crash between the renames only `.old` is whole; a save that fails then must not
    take it away.
    """
    save_checkpoint(tmp_path / "c", GPTModel(TINY), TOKENIZER)
    (tmp_path / "c").rename(tmp_path / "c.old")

    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "c", GPTModel(TINY), TOKENIZER)
    assert find_checkpoint(tmp_path / "c") == tmp_path / "c.old"
    load_checkpoint(tmp_path / "c")


def an_exploding_loss(at_step: int, value: float, grows: bool):
    """The model's loss until `at_step`, then infinite; its gradient may grow before."""
    calls = 0

    def loss_fn(model, batch):
        nonlocal calls
        calls += 1
        loss = model(batch[0]).square().sum()
        if calls == at_step:
            loss = loss * value
        elif grows:
            loss = loss * 30.0**calls
        return loss, torch.tensor(float(batch[0].numel()))

    return loss_fn


@pytest.mark.parametrize(
    ("at_step", "grows", "words"),
    [
        (1, False, "the loss of step 1 is infinite or NaN; it was so from the first step"),
        (7, False, "the loss of step 7 is infinite or NaN; try a lower learning rate"),
        (7, True, "the loss of step 7 is infinite or NaN; the gradient norm had risen to"),
        (14, False, "the loss of step 14 is infinite or NaN"),
    ],
)
def test_an_infinite_loss_stops_with_the_step_and_the_likely_cause(at_step, grows, words):
    ids = torch.zeros(2, 8, dtype=torch.long)
    saved = []
    with pytest.raises(ValueError, match=words):
        train(
            GPTModel(TINY),
            iter([(ids, ids)] * 30),
            an_exploding_loss(at_step, float("nan"), grows),
            steps=20,
            options=TrainOptions(
                evaluate=lambda progress: {"val_loss": 1.0},
                save=lambda progress: saved.append(progress.step),
            ),
        )
    assert saved == ([10] if at_step > 10 else [])


def test_an_interrupt_does_not_save_what_has_exploded():
    ids = torch.zeros(2, 8, dtype=torch.long)
    saved = []
    with pytest.raises(ValueError, match="the loss of step 1"):
        train(
            GPTModel(TINY),
            iter([(ids, ids)] * 30),
            an_exploding_loss(1, float("inf"), False),
            steps=20,
            options=TrainOptions(
                save=lambda progress: saved.append(progress.step), should_stop=lambda: True
            ),
        )
    assert saved == []
