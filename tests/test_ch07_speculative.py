"""Speculative decoding generates what the model alone does: the same tokens if greedy, the same
distribution if sampling.
"""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ch03_gpt import GPTConfig, GPTModel, Sampler, SamplingParams, complete
from ch07_practice.decoding.speculative import DraftModel, PromptLookup, SpeculativeDecoder

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
    """Nearly the model itself: most of its proposals are accepted, but not all."""
    draft = wild_model(CONFIG, 1)
    with torch.no_grad():
        for parameter in draft.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return draft


def generate(drafter, prompt, new, **options) -> tuple[list[int], SpeculativeDecoder]:
    decoder = SpeculativeDecoder(MODEL, prompt, new, drafter, **options)
    return [token for ids in decoder for token in ids], decoder


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
    st.integers(1, 40),
    st.integers(1, 7),
    st.sampled_from(["lookup", "draft", "close draft", "itself"]),
    st.booleans(),
)
def test_greedy_text_is_exactly_the_models(prompt, new, num_speculative_tokens, kind, stops):
    """Oracle: `complete`."""
    drafter = (
        PromptLookup()
        if kind == "lookup"
        else DraftModel({"draft": DRAFT, "close draft": close_draft(), "itself": MODEL}[kind])
    )
    stop_ids = [3] if stops else []
    (expected,) = complete(MODEL, [prompt], new, stop_ids=stop_ids)
    ids, decoder = generate(
        drafter, prompt, new, num_speculative_tokens=num_speculative_tokens, stop_ids=stop_ids
    )
    assert ids == expected.ids
    if kind == "itself":
        assert decoder.accepted == decoder.proposed


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.slow) for kind in ("lookup", "draft", "close draft")],
)
@pytest.mark.parametrize(
    "options", [dict(temperature=1.0), dict(temperature=0.7, top_k=4, top_p=0.95)]
)
def test_sampled_texts_are_distributed_as_the_models(kind, options):
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
    drafter = {
        "lookup": lambda: PromptLookup(),
        "draft": lambda: DraftModel(DRAFT, generator, **options),
        "close draft": lambda: DraftModel(close_draft(), generator, **options),
    }[kind]
    found, accepted = Counter(), 0
    for _ in range(n):
        ids, decoder = generate(
            drafter(), prompt, 3, num_speculative_tokens=2, generator=generator, **options
        )
        found[tuple(ids)] += 1
        accepted += decoder.accepted
    assert accepted > 0
    counts = torch.tensor([found[tuple(text)] for text in texts.tolist()]).double()
    assert counts[expected == 0].sum() == 0
    common = expected * n >= 5
    observed = [*counts[common].tolist(), counts[~common].sum().item()]
    wanted = [*(expected[common] * n).tolist(), (expected[~common] * n).sum().item()]
    if wanted[-1] < 1e-9:
        observed, wanted = observed[:-1], wanted[:-1]
    scale = sum(observed) / sum(wanted)
    assert stats.chisquare(observed, [value * scale for value in wanted]).pvalue > 0.001


def test_repeated_text_saves_rounds():
    """Oracle: counting. A repetitive text needs fewer passes than it has tokens."""
    text, decoder = generate(PromptLookup(), [0, 1, 2, 3, 4, 5] * 2, 40, num_speculative_tokens=6)
    assert len(text) == 40
    assert decoder.rounds + decoder.accepted in (40, 41)
    assert decoder.proposed >= decoder.accepted > 0


def test_what_cannot_be_checked_ahead_is_refused():
    with pytest.raises(ValueError, match="penalties"):
        SpeculativeDecoder(MODEL, [1], 5, PromptLookup(), temperature=1.0, presence_penalty=0.5)
    with pytest.raises(ValueError, match="have 65 tokens, but the context holds 64"):
        SpeculativeDecoder(MODEL, [1] * 60, 5, PromptLookup())
    with pytest.raises(ValueError, match="at least one token"):
        SpeculativeDecoder(MODEL, [], 5, PromptLookup())
