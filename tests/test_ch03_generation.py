"""Generation against itself (one by one, without a cache, in chunks), transformers, closed forms
and statistics.
"""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ch01_text import BPETokenizer, CharTokenizer, WordTokenizer
from ch03_gpt import (
    GPTConfig,
    GPTModel,
    Sampler,
    SamplingParams,
    TextStream,
    beam_search,
    capability,
    complete,
    generate,
    generate_text_simple,
    stream,
    stream_text,
)
from ch03_gpt.capability import native_gemv_on_cpu
from ch03_gpt.generation import DecodingState, prefill
from ch03_gpt.sampling import sample

TINY = GPTConfig(vocab_size=50, context_length=16, emb_dim=24, n_heads=4, n_layers=2)
LLAMA = replace(
    TINY, position="rope", norm="rmsnorm", ffn="swiglu", bias=False, n_kv_heads=2, ffn_dim=40
)
FAMILIES = st.builds(
    replace,
    st.sampled_from([TINY, LLAMA]),
    window=st.sampled_from([None, 4]),
    conv_kernel=st.sampled_from([0, 3, 7]),
    qk_norm=st.booleans(),
    context_length=st.sampled_from([8, 16]),
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def wild_model(config: GPTConfig, seed: int = 1) -> GPTModel:
    """Weights so large that the most likely token depends on the whole text."""
    torch.manual_seed(seed)
    model = GPTModel(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def seeded(n: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(n)]


@settings(max_examples=25)
@given(FAMILIES, st.integers(1, 8), st.integers(1, 40), st.sampled_from([0.0, 1.0]))
def test_cached_equals_uncached(config, prompt, new, temperature):
    """Oracle: generation without a cache, also past the context length."""
    model = wild_model(config)
    ids = torch.randint(0, 50, (2, prompt))
    before = ids.clone()
    results = [
        generate(
            model,
            ids,
            new,
            temperature=temperature,
            use_cache=cache,
            generator=torch.Generator().manual_seed(2),
        )
        for cache in (True, False)
    ]
    assert torch.equal(*results)
    assert results[0].shape == (2, prompt + new)
    assert torch.equal(ids, before)


@settings(max_examples=60)
@given(
    FAMILIES,
    st.lists(st.integers(1, 8), min_size=2, max_size=5),
    st.integers(1, 30),
    st.integers(0, 100),
    st.sampled_from(
        [
            dict(),
            dict(temperature=1.0),
            dict(temperature=0.7, top_k=9, top_p=0.9, min_p=0.02),
            dict(
                temperature=1.2, repetition_penalty=1.3, presence_penalty=0.4, frequency_penalty=0.2
            ),
        ]
    ),
    st.booleans(),
    st.sampled_from([1, 3, 512]),
)
def test_unequal_prompts_together_write_what_each_writes_alone(
    config, lengths, new, seed, options, use_cache, chunk
):
    """Oracle: one prompt at a time, uncached, in one chunk."""
    model = wild_model(config)
    torch.manual_seed(seed)
    prompts = [torch.randint(0, 50, (length,)).tolist() for length in lengths]
    together = complete(
        model,
        prompts,
        new,
        generator=seeded(len(prompts)),
        use_cache=use_cache,
        chunk=chunk,
        **options,
    )
    for prompt, generator, completion in zip(prompts, seeded(len(prompts)), together, strict=True):
        alone = generate(
            model, torch.tensor([prompt]), new, generator=generator, use_cache=False, **options
        )
        assert completion.ids == alone[0, len(prompt) :].tolist()


@settings(max_examples=20)
@given(st.sampled_from([TINY, LLAMA]), st.integers(1, 6), st.integers(1, 12), st.integers(2, 70))
def test_a_window_bounds_the_memory_and_changes_nothing(config, window, chunk, new):
    """Oracle: a cache that keeps everything, for the same model, while the ring wraps many times."""
    from ch02_attention import KVCache

    model = wild_model(replace(config, context_length=80, window=window))
    shape = (2, config.n_layers, config.kv_heads, 80, config.head_dim)
    bounded, full = KVCache(*shape, window=window, chunk=chunk), KVCache(*shape)
    full.window = window
    assert bounded.n_slots == min(80, window + chunk)
    prompts = [torch.randint(0, 50, (length,)).tolist() for length in (1 + new % 7, 5)]
    with torch.no_grad():
        results = [[prefill(model, prompts, cache)] for cache in (bounded, full)]
        for ids in torch.randint(0, 50, (new, 2, 1)):
            for result, cache in zip(results, (bounded, full), strict=True):
                result.append(model.hidden_states(ids, cache)[:, -1])
    torch.testing.assert_close(
        torch.stack(results[0]), torch.stack(results[1]), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("config", [TINY, LLAMA, replace(LLAMA, window=4)])
def test_bfloat16_weights_predict_nearly_what_float32_does(config):
    """Oracle: float32, over texts of unequal length that are prefilled in chunks and then decoded,
    past the context.
    """
    torch.manual_seed(0)
    model = GPTModel(config).eval()
    halves = GPTModel(config).to(torch.bfloat16).eval()
    halves.load_state_dict(model.state_dict())
    prompts = [[1, 2, 3, 4, 5, 6, 7], [8], [9, 10, 11]]
    states = [DecodingState(m, prompts, 30, chunk=3) for m in (model, halves)]
    with torch.no_grad():
        for ids in torch.randint(0, 50, (20, len(prompts), 1)):
            wide, narrow = (state.logits.float() for state in states)
            assert (wide - narrow).std() < 0.03 * wide.std()
            for state in states:
                state.append(ids)


def test_a_single_row_takes_another_kernel_and_gives_the_same_logits(monkeypatch):
    """Oracle: the same row in a batch of two; oneDNN is enabled again afterwards, also after an
    error.
    """
    monkeypatch.setattr(capability, "native_gemv_is_faster", lambda: True)
    model = wild_model(LLAMA).to(torch.bfloat16)
    ids = torch.randint(0, 50, (1, 7))
    alone, beside = (DecodingState(model, ids.tolist() * n, 1) for n in (1, 2))
    with torch.no_grad():
        for state in (alone, beside):
            state.append(torch.full((len(state.texts), 1), 3))
    assert (alone.logits - beside.logits[:1]).abs().max() < 0.03 * beside.logits.abs().max()
    with pytest.raises(ZeroDivisionError), native_gemv_on_cpu(1, torch.bfloat16):
        assert not torch._C._get_mkldnn_enabled()
        raise ZeroDivisionError
    assert torch._C._get_mkldnn_enabled()


def test_a_forgotten_guess_leaves_no_trace():
    """Oracle: a cache that never held it; also when the slots of a window are reused."""
    for config in (TINY, replace(LLAMA, window=3)):
        model = wild_model(replace(config, context_length=64))
        ids = torch.randint(0, 50, (1, 40))
        cache = model.make_cache(1)
        with torch.no_grad():
            for start in range(0, 36, 4):
                model.hidden_states(torch.randint(0, 50, (1, 3)), cache)
                cache.truncate(start)
                hidden = model.hidden_states(ids[:, start : start + 4], cache)
            expected = model.hidden_states(ids[:, :36])[:, 32:]
        torch.testing.assert_close(hidden, expected, atol=1e-4, rtol=1e-4)


def test_greedy_equals_the_books_loop():
    """Oracle: generate_text_simple, the readable reference."""
    model = wild_model(TINY)
    ids = torch.randint(0, 50, (3, 4))
    assert torch.equal(
        generate(model, ids, 12), generate_text_simple(model, ids, 12, context_size=16)
    )


def test_many_samples_of_one_prompt_are_the_prompt_repeated():
    """Oracle: the prompts repeated; each prompt is prefilled only once."""
    model = wild_model(LLAMA)
    prompts = [[1, 2, 3, 4], [5]]
    rows = []
    model.trf_blocks[0].register_forward_hook(
        lambda block, inputs, output: rows.append(inputs[0].shape[:2])
    )
    samples = complete(model, prompts, 9, samples=3, temperature=1.0, generator=seeded(6))
    assert rows[0] == (2, 4)
    repeated = complete(
        model,
        [prompt for prompt in prompts for _ in range(3)],
        9,
        temperature=1.0,
        generator=seeded(6),
    )
    assert [c.ids for c in samples] == [c.ids for c in repeated]
    assert len({tuple(c.ids) for c in samples[:3]}) > 1


@given(
    st.integers(0, 1000),
    st.integers(1, 14),
    st.floats(0.05, 1.0),
    st.floats(0.01, 0.9),
    st.floats(0.5, 2.0),
    st.floats(0.3, 2.0),
)
def test_filters_equal_transformers(seed, top_k, top_p, min_p, penalty, temperature):
    """Oracle: transformers' logits processors, one after the other."""
    from transformers import (
        LogitsProcessorList,
        MinPLogitsWarper,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 12, generator=generator) * 2
    seen = torch.randint(0, 12, (3, 5), generator=generator)
    processors = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(penalty),
            TemperatureLogitsWarper(temperature),
            TopKLogitsWarper(top_k),
            TopPLogitsWarper(top_p),
            MinPLogitsWarper(min_p),
        ]
    )
    sampler = Sampler(
        SamplingParams(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=penalty,
        ),
        seen.tolist(),
        12,
    )
    torch.testing.assert_close(sampler.filter(logits), processors(seen, logits))


def test_ties_at_the_kth_logit_are_cut_alike_in_every_batch():
    """All tokens that tie with the k-th stay, whatever the other rows ask for (oracle: the
    definition).
    """
    logits = torch.tensor([[1.0, 1.0, 0.0, -1.0], [1.0, 0.0, 0.0, 0.0]])
    for k in (1, 2, 3):
        kept = logits >= logits.sort(descending=True).values[:, k - 1 : k]
        for other in (1, 2, 4, None):
            params = [SamplingParams(temperature=1.0, top_k=n) for n in (k, k, other)]
            batch = torch.cat((logits, torch.zeros(1, 4)))
            found = Sampler(params, [[0]] * 3, 4).filter(batch)[:2].isfinite()
            assert torch.equal(found, kept)
        one = Sampler(SamplingParams(temperature=1.0, top_k=k), [[0]], 4)
        assert torch.equal(one.filter(logits).isfinite(), kept)  # one text, several rows of logits


OPTIONS = st.builds(
    lambda temperature, filters, **rest: SamplingParams(
        temperature=temperature, **(filters if temperature else {}), **rest
    ),
    temperature=st.sampled_from([0.0, 0.5, 1.3]),
    repetition_penalty=st.sampled_from([1.0, 1.5]),
    filters=st.fixed_dictionaries(
        {
            "top_k": st.sampled_from([None, 3, 50]),
            "top_p": st.sampled_from([None, 0.8]),
            "min_p": st.sampled_from([None, 0.1]),
        }
    ),
    presence_penalty=st.sampled_from([0.0, 0.7]),
    frequency_penalty=st.sampled_from([0.0, -0.4]),
    logit_bias=st.sampled_from([{}, {3: 2.5}]),
    suppress_tokens=st.sampled_from([(), (0, 7)]),
)


@settings(max_examples=60)
@given(st.lists(OPTIONS, min_size=2, max_size=5), st.integers(0, 99))
def test_rows_may_differ_in_every_setting(options, seed):
    """Oracle: each row with its own sampler, over several steps."""
    torch.manual_seed(seed)
    n = len(options)
    prompts = [torch.randint(0, 12, (4,)).tolist() for _ in range(n)]
    mixed = Sampler(options, prompts, 12, generators=seeded(n))
    alone = [
        Sampler(option, [prompt], 12, generators=[generator])
        for option, prompt, generator in zip(options, prompts, seeded(n), strict=True)
    ]
    for _ in range(4):
        logits = torch.randn(n, 12)
        separate = [sampler.filter(row[None]) for sampler, row in zip(alone, logits, strict=True)]
        torch.testing.assert_close(mixed.filter(logits), torch.cat(separate))
        expected = [sampler.sample(row[None]) for sampler, row in zip(alone, logits, strict=True)]
        assert torch.equal(mixed.sample(logits), torch.cat(expected))


def test_penalties_follow_their_definitions():
    """Oracle: written out by hand for three tokens, of which 0 was in the prompt and 1 was
    written twice.
    """
    sampler = Sampler(
        SamplingParams(repetition_penalty=2.0, presence_penalty=0.5, frequency_penalty=0.25),
        [[0]],
        3,
        outputs=[[1, 1]],
    )
    filtered = sampler.filter(torch.tensor([[4.0, -1.0, 3.0]]))
    torch.testing.assert_close(filtered, torch.tensor([[2.0, -2.0 - 0.5 - 0.5, 3.0]]))


def test_bias_and_bans():
    """Oracle: a bias of 100 always wins, a suppressed token never comes."""
    model = wild_model(TINY)
    ids = torch.zeros(4, 1, dtype=torch.long)
    assert set(generate(model, ids, 5, logit_bias={7: 1000.0})[:, 1:].flatten().tolist()) == {7}
    free = set(generate(model, ids, 12, temperature=2.0)[:, 1:].flatten().tolist())
    left = set(
        generate(model, ids, 12, temperature=2.0, suppress_tokens=list(free))[:, 1:]
        .flatten()
        .tolist()
    )
    assert not left & free


@given(st.lists(st.integers(-20, 20), min_size=2, max_size=9, unique=True), st.floats(0.05, 0.99))
def test_top_p_equals_its_definition(fifths, p):
    """Oracle: sort, add up until p is reached, drop the rest."""
    values = [value / 5 for value in fifths]
    probabilities = torch.tensor(values, dtype=torch.float64).softmax(dim=0)
    kept, total = set(), 0.0
    for i in sorted(range(len(values)), key=lambda i: -values[i]):
        kept.add(i)
        total += probabilities[i].item()
        if abs(total - p) < 1e-5:
            return  # float32 may decide a tie either way
        if total > p:
            break
    sampler = Sampler(SamplingParams(temperature=1.0, top_p=p), [[]], len(values))
    assert (
        set(sampler.filter(torch.tensor([values]))[0].isfinite().nonzero().flatten().tolist())
        == kept
    )


def test_samples_follow_the_distribution():
    """Oracle: a chi-square test of 20,000 draws against the filtered softmax."""
    logits = torch.tensor([[1.0, 0.5, 0.0, -0.5, -3.0]])
    sampler = Sampler(
        SamplingParams(temperature=0.8, top_k=4),
        [[]] * 20_000,
        5,
        generators=torch.Generator().manual_seed(0),
    )
    expected = sampler.filter(logits.expand(20_000, 5))[0].double().softmax(dim=-1)
    counts = sampler.sample(logits.expand(20_000, 5)).flatten().bincount(minlength=5)
    assert counts[4] == 0
    share = expected[:4] / expected[:4].sum()
    assert stats.chisquare(counts[:4].numpy(), (20_000 * share).numpy()).pvalue > 0.001


def test_an_excluded_token_is_never_sampled():
    """Oracle: the largest and the smallest uniform number, at both ends of the vocabulary."""
    logits = torch.tensor([[float("-inf"), 0.0, 0.1, float("-inf")]])
    assert [sample(logits, torch.tensor([[u]])).item() for u in (0.0, 1 - 2**-24, 1.0)] == [1, 2, 2]


@given(st.integers(0, 50), st.integers(0, 3))
def test_log_probabilities_are_the_models(seed, top):
    """Oracle: the log-softmax of one uncached pass over the finished text."""
    model = wild_model(LLAMA)
    torch.manual_seed(seed)
    prompts = [[1, 2, 3], [4, 5, 6, 7, 8]]
    completions = complete(
        model, prompts, 6, temperature=0.9, top_k=5, logprobs=top, generator=seeded(2)
    )
    for prompt, completion in zip(prompts, completions, strict=True):
        with torch.no_grad():
            log_p = model(torch.tensor([prompt + completion.ids]))[
                0, len(prompt) - 1 : -1
            ].log_softmax(dim=-1)
        expected = log_p.gather(1, torch.tensor(completion.ids)[:, None])[:, 0]
        torch.testing.assert_close(
            torch.tensor(completion.logprobs), expected, atol=1e-4, rtol=1e-4
        )
        for found, row in zip(completion.top_logprobs, log_p, strict=True):
            assert list(found) == row.topk(top).indices.tolist()


def test_a_finished_row_is_padded_and_the_others_go_on():
    """Oracle: the same rows without stop ids, cut at the first stop."""
    model = wild_model(TINY)
    ids = torch.arange(8).view(8, 1)
    free = generate(model, ids, 12, temperature=1.5, generator=torch.Generator().manual_seed(0))
    stop = free[3, 4].item()
    stopped = generate(
        model,
        ids,
        12,
        temperature=1.5,
        generator=torch.Generator().manual_seed(0),
        stop_ids=(stop,),
    )
    for row, cut in zip(free[:, 1:].tolist(), stopped[:, 1:].tolist(), strict=True):
        end = row.index(stop) + 1 if stop in row else len(row)
        assert cut[:end] == row[: min(end, len(cut))]
        assert set(cut[end:]) <= {stop}


def test_completions_end_at_their_stop_and_say_why():
    """Oracle: the free completions, cut."""
    model = wild_model(TINY)
    prompts = [[1], [2, 3], [4, 5, 6]]
    free = complete(model, prompts, 10)
    stop = free[1].ids[4]
    for whole, cut in zip(free, complete(model, prompts, 10, stop_ids=[stop]), strict=True):
        stops = stop in whole.ids
        assert cut.ids == (whole.ids[: whole.ids.index(stop)] if stops else whole.ids)
        assert cut.finish_reason == ("stop" if stops else "length")


def test_generation_ends_early_when_every_row_has_stopped():
    model = GPTModel(TINY)
    ids = torch.zeros(1, 1, dtype=torch.long)
    first = generate(model, ids, 1)[0, 1].item()
    assert generate(model, ids, 10, stop_ids=(first,)).tolist() == [[0, first]]


def test_stream_equals_generate_and_keeps_the_mode():
    model = GPTModel(TINY).train()
    ids = torch.randint(0, 50, (2, 3))
    assert torch.equal(torch.cat([ids, *stream(model, ids, 6)], dim=1), generate(model, ids, 6))
    assert model.training


def test_a_step_costs_the_same_at_any_length():
    """Oracle: the number of operators that run for a token early and late in a text."""
    from torch.profiler import ProfilerActivity, profile

    model = wild_model(replace(LLAMA, context_length=400))
    steps = stream(model, torch.zeros(1, 5, dtype=torch.long), 390)
    counts = []
    for number in range(390):
        if number in (10, 380):
            with profile(activities=[ProfilerActivity.CPU]) as profiler:
                next(steps)
            counts.append(sum(event.count for event in profiler.key_averages()))
        else:
            next(steps)
    assert counts[0] == counts[1]


@settings(max_examples=15)
@given(st.integers(0, 100), st.integers(1, 4), st.sampled_from([0.0, 1.0, 2.0]), st.booleans())
def test_beam_search_equals_transformers(seed, num_beams, length_penalty, stops):
    """Oracle: transformers' beam search on the same weights, scores and all beams."""
    from ch07_practice.benchmarks.reference_models import transformers_gpt2

    model = wild_model(replace(TINY, qkv_bias=True, tie_embeddings=True), seed)
    theirs = transformers_gpt2(model).eval()
    prompt = torch.randint(0, 50, (1, 4), generator=torch.Generator().manual_seed(seed))
    eos = 11 if stops else None
    found = theirs.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=6,
        num_beams=num_beams,
        num_return_sequences=num_beams,
        length_penalty=length_penalty,
        do_sample=False,
        eos_token_id=eos,
        pad_token_id=49,
        return_dict_in_generate=True,
        output_scores=True,
    )
    ours = beam_search(
        model,
        prompt.tolist(),
        6,
        num_beams=num_beams,
        length_penalty=length_penalty,
        stop_ids=[eos] if stops else [],
        num_return_sequences=num_beams,
    )[0]
    for (ids, score), row, expected in zip(
        ours,
        found.sequences[:, 4:].tolist(),
        getattr(found, "sequences_scores", [None] * num_beams),
        strict=True,
    ):
        assert ids == (row[: row.index(eos)] if eos in row else row)
        if expected is not None:
            assert score == pytest.approx(expected.item(), abs=1e-4)


def test_a_beam_as_wide_as_the_vocabulary_finds_the_most_likely_pair():
    """Oracle: the probabilities of all 6 x 6 texts of two tokens, written out."""
    model = wild_model(replace(TINY, vocab_size=6))
    texts = torch.tensor(list(itertools.product(range(6), repeat=2)))
    with torch.no_grad():
        log_p = model(torch.cat((torch.tensor([[2, 3]]).expand(36, 2), texts), dim=1)).log_softmax(
            dim=-1
        )
    scores = log_p[:, 1:-1].gather(2, texts.unsqueeze(2)).sum(dim=(1, 2)) / 2
    (found,) = beam_search(model, [[2, 3]], 2, num_beams=6, num_return_sequences=6)
    assert [ids for ids, _ in found] == texts[scores.topk(6).indices].tolist()
    assert [score for _, score in found] == pytest.approx(scores.topk(6).values.tolist(), abs=1e-5)


@settings(max_examples=15)
@given(st.integers(0, 100), st.lists(st.integers(1, 6), min_size=2, max_size=4))
def test_beams_of_unequal_prompts_equal_each_alone(seed, lengths):
    """Oracle: one prompt at a time."""
    model = wild_model(LLAMA, seed)
    prompts = [
        torch.randint(0, 50, (length,), generator=torch.Generator().manual_seed(i)).tolist()
        for i, length in enumerate(lengths)
    ]
    together = beam_search(model, prompts, 8, num_beams=3, stop_ids=[3, 9], num_return_sequences=3)
    for prompt, found in zip(prompts, together, strict=True):
        (alone,) = beam_search(
            model, [prompt], 8, num_beams=3, stop_ids=[3, 9], num_return_sequences=3
        )
        assert [ids for ids, _ in found] == [ids for ids, _ in alone]
        assert [score for _, score in found] == pytest.approx(
            [score for _, score in alone], abs=1e-4
        )


BPE = BPETokenizer.train("the cat sat on the mat, the end. " * 30 + "naïve café 🙂🙃 ", 280)
TOKENIZERS = [
    BPE,
    CharTokenizer.train("the cat, sat. né🙂"),
    WordTokenizer.train("the cat sat, on. the mat end"),
]


@settings(max_examples=200)
@given(
    st.sampled_from(TOKENIZERS),
    st.data(),
    st.lists(st.sampled_from(["the end", "at", "🙂", "t, s", " "]), max_size=2),
)
def test_streamed_text_is_the_decoded_text_up_to_the_first_stop(tokenizer, data, stops):
    """Oracle: decode all ids at once, cut at the first stop string. Stop strings come whole, half
    and split between tokens; random ids add broken characters.
    """
    words = data.draw(
        st.lists(
            st.sampled_from(["the", "the end", "th", " ", "at", "t, s", "t, ", "🙂"]), max_size=9
        )
    )
    ids = tokenizer.encode("".join(words)) + data.draw(
        st.lists(st.integers(0, tokenizer.n_vocab - 1), max_size=9)
    )
    stream = TextStream(tokenizer, stops)
    pieces = []
    for token in ids:
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    text = "".join([*pieces, stream.finish()])
    whole = tokenizer.decode(ids)
    ends = [whole.find(stop) for stop in stops if stop in whole]
    assert text == whole[: min(ends)] if ends else text == whole
    assert stream.stopped == bool(ends)


def test_no_piece_ends_inside_a_character():
    """Oracle: the pieces themselves: an emoji of four bytes comes at once."""
    stream = TextStream(BPE)
    pieces = [stream.push(token) for token in BPE.encode("🙂")]
    assert pieces == [""] * (len(pieces) - 1) + ["🙂"]


def test_stream_text_is_generate_decoded():
    """Oracle: generate."""
    model = wild_model(replace(LLAMA, vocab_size=BPE.n_vocab))
    start = torch.tensor([[BPE.eot_id, *BPE.encode("the cat")]])
    expected = BPE.decode(
        generate(model, start, 8, suppress_tokens=[BPE.eot_id])[0, start.shape[1] :].tolist()
    )
    assert "".join(stream_text(model, BPE, "the cat", 8, suppress_tokens=[BPE.eot_id])) == expected
    cut = "".join(
        stream_text(model, BPE, "the cat", 8, suppress_tokens=[BPE.eot_id], stops=[expected[3:5]])
    )
    assert cut == expected[: expected.index(expected[3:5])]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(temperature=-1), "temperature"),
        (dict(top_k=0, temperature=1), "top_k"),
        (dict(top_p=0), "top_p"),
        (dict(min_p=2), "min_p"),
        (dict(repetition_penalty=0), "repetition_penalty"),
        (dict(temperature=float("nan")), "temperature"),
        (dict(top_p=0.5), "temperature 0"),
        (dict(suppress_tokens=[50]), "there is no token 50"),
        (dict(suppress_tokens=range(50)), "every token is suppressed"),
        (dict(suppress_tokens=[1], logit_bias={1: 1.0}), "token 1 is suppressed"),
    ],
)
def test_bad_sampling_options_are_refused_before_any_work(options, words):
    with pytest.raises(ValueError, match=words):
        stream(GPTModel(TINY), torch.zeros(1, 1, dtype=torch.long), 1, **options)


def test_bad_prompts_are_refused_before_any_work():
    model = GPTModel(TINY)
    with pytest.raises(ValueError, match="at least one token"):
        stream(model, torch.zeros(1, 0, dtype=torch.long), 1)
    with pytest.raises(ValueError, match="the prompt has 17 tokens, the model sees 16"):
        stream(model, torch.zeros(1, 17, dtype=torch.long), 1)
    with pytest.raises(ValueError, match="at least one token"):
        complete(model, [[1], []], 1)
    with pytest.raises(ValueError, match="no prompt"):
        complete(model, [], 1)
    with pytest.raises(ValueError, match="samples must be"):
        complete(model, [[1]], 1, samples=0)
    with pytest.raises(ValueError, match="the prompt is empty"):
        stream_text(model, BPE, "", 1)
    with pytest.raises(ValueError, match="a stop string is empty"):
        stream_text(model, BPE, "a", 1, stops=["x", ""])
    with pytest.raises(ValueError, match="17 tokens, the model sees 16"):
        beam_search(model, [[1] * 10], 7)
    with pytest.raises(ValueError, match="num_beams must be"):
        beam_search(model, [[1]], 7, num_beams=51)
