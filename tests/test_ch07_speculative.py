"""Speculative decoding writes what the model alone writes: to the token when greedy, in
distribution when drawing.
"""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ch03_gpt import GPTConfig, GPTModel, Sampler, SamplingParams, complete
from ch07_practice.speculative import DraftModel, PromptLookup, Speculation

CONFIG = GPTConfig(
    vocab_size=6,
    context_length=64,
    emb_dim=24,
    n_heads=4,
    n_layers=2,
    position="rope",
    conv_kernel=3,
)


def wild_model(config: GPTConfig, seed: int, std: float = 0.3) -> GPTModel:
    torch.manual_seed(seed)
    model = GPTModel(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return model.eval()


MODEL, DRAFT = wild_model(CONFIG, 1), wild_model(replace(CONFIG, n_layers=1), 2)


def close_draft() -> GPTModel:
    """Nearly the model itself: its guesses are mostly right, and not always."""
    draft = wild_model(CONFIG, 1)
    with torch.no_grad():
        for parameter in draft.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return draft


def write(guesser, prompt, new, **options) -> tuple[list[int], Speculation]:
    speculation = Speculation(MODEL, prompt, new, guesser, **options)
    return [token for ids in speculation for token in ids], speculation


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
    st.integers(1, 40),
    st.integers(1, 7),
    st.sampled_from(["lookup", "draft", "close draft", "itself"]),
    st.booleans(),
)
def test_greedy_text_is_exactly_the_models(prompt, new, n_guesses, kind, stops):
    """Oracle: `complete`."""
    guesser = (
        PromptLookup()
        if kind == "lookup"
        else DraftModel({"draft": DRAFT, "close draft": close_draft(), "itself": MODEL}[kind])
    )
    stop_ids = [3] if stops else []
    (expected,) = complete(MODEL, [prompt], new, stop_ids=stop_ids)
    ids, speculation = write(guesser, prompt, new, n_guesses=n_guesses, stop_ids=stop_ids)
    assert ids == expected.ids
    if kind == "itself":
        assert speculation.kept == speculation.guessed


@pytest.mark.parametrize(
    "kind",
    ["lookup", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("draft", "close draft"))],
)
@pytest.mark.parametrize(
    "options", [dict(temperature=1.0), dict(temperature=0.7, top_k=4, top_p=0.95)]
)
def test_drawn_texts_are_distributed_as_the_models(kind, options):
    """Oracle: the exact probabilities of all texts of three tokens; chi-square over 1,500 texts."""
    prompt, n = [1, 2, 1, 2, 1], 1500
    texts = torch.cartesian_prod(*[torch.arange(6)] * 3)
    with torch.no_grad():
        whole = torch.cat((torch.tensor([prompt]).expand(len(texts), -1), texts), dim=1)
        logits = MODEL(whole)[:, len(prompt) - 1 : -1]
    sampler = Sampler(SamplingParams(**options), [[]], 6)
    p = sampler.filter(logits.flatten(0, 1)).softmax(dim=-1).view(len(texts), 3, 6)
    expected = p.gather(2, texts.unsqueeze(2)).squeeze(2).double().prod(dim=1)
    generator = torch.Generator().manual_seed(5)
    guesser = {
        "lookup": lambda: PromptLookup(),
        "draft": lambda: DraftModel(DRAFT, generator, **options),
        "close draft": lambda: DraftModel(close_draft(), generator, **options),
    }[kind]
    found, kept = Counter(), 0
    for _ in range(n):
        ids, speculation = write(guesser(), prompt, 3, n_guesses=2, generator=generator, **options)
        found[tuple(ids)] += 1
        kept += speculation.kept
    assert kept > 0
    counts = torch.tensor([found[tuple(text)] for text in texts.tolist()]).double()
    assert counts[expected == 0].sum() == 0
    common = expected * n >= 5
    observed = [*counts[common].tolist(), counts[~common].sum().item()]
    wanted = [*(expected[common] * n).tolist(), (expected[~common] * n).sum().item()]
    if wanted[-1] < 1e-9:
        observed, wanted = observed[:-1], wanted[:-1]
    scale = sum(observed) / sum(wanted)
    assert stats.chisquare(observed, [value * scale for value in wanted]).pvalue > 0.001


def test_repeated_text_is_guessed_and_saves_rounds():
    """Oracle: counting. A text that repeats itself is written in fewer passes than it has
    tokens.
    """
    text, speculation = write(PromptLookup(), [0, 1, 2, 3, 4, 5] * 2, 40, n_guesses=6)
    assert len(text) == 40
    assert (
        speculation.rounds + speculation.kept == 40 or speculation.rounds + speculation.kept == 41
    )
    assert speculation.guessed >= speculation.kept > 0


def test_what_cannot_be_checked_ahead_is_refused():
    with pytest.raises(ValueError, match="penalties"):
        Speculation(MODEL, [1], 5, PromptLookup(), temperature=1.0, presence_penalty=0.5)
    with pytest.raises(ValueError, match="have 65 tokens, the model sees 64"):
        Speculation(MODEL, [1] * 60, 5, PromptLookup())
    with pytest.raises(ValueError, match="at least one token"):
        Speculation(MODEL, [], 5, PromptLookup())
