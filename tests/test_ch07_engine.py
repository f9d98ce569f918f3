"""The engine against one request at a time, and against its promises: fairness, freed rows, a
bounded prefill.
"""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ch03_gpt import GPTConfig, GPTModel, SamplingParams, complete
from ch07_practice.serving.engine import Engine, Request

CONFIG = GPTConfig(vocab_size=50, context_length=24, emb_dim=24, n_heads=4, n_layers=2)
LLAMA = replace(
    CONFIG, position="rope", norm="rmsnorm", ffn="swiglu", bias=False, n_kv_heads=2, ffn_dim=40
)
OPTIONS = [
    dict(),
    dict(temperature=1.0),
    dict(temperature=0.7, top_k=9),
    dict(temperature=1.3, repetition_penalty=1.4),
    dict(temperature=1.0, top_p=0.8, presence_penalty=0.5, frequency_penalty=0.3),
]


def wild_model(config: GPTConfig) -> GPTModel:
    torch.manual_seed(1)
    model = GPTModel(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


REQUESTS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 9), min_size=1, max_size=20),
        st.integers(1, 35),
        st.sampled_from(OPTIONS),
        st.integers(0, 12),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=50)
@given(
    st.sampled_from(
        [CONFIG, LLAMA, replace(LLAMA, window=5), replace(LLAMA, window=5, conv_kernel=3)]
    ),
    REQUESTS,
    st.integers(1, 4),
    st.integers(1, 30),
)
def test_requests_that_come_and_go_get_what_each_gets_alone(
    config, wishes, max_num_seqs, max_num_batched_tokens
):
    """Oracle: `complete` for each request alone. Requests arrive at random steps, and some texts
    outgrow the context.
    """
    model = wild_model(config)
    engine = Engine(model, max_num_seqs, max_num_batched_tokens)
    requests = [
        Request(prompt, new, SamplingParams(**options), stop_ids=(7,), seed=seed, top_logprobs=2)
        for seed, (prompt, new, options, _) in enumerate(wishes)
    ]
    arrivals = {seed: wish[3] for seed, wish in enumerate(wishes)}
    step = 0
    while arrivals or engine.busy:
        for seed in [seed for seed, arrival in arrivals.items() if arrival <= step]:
            engine.submit(requests[seed])
            del arrivals[seed]
        engine.step()
        step += 1
    for seed, (request, (prompt, new, options, _)) in enumerate(zip(requests, wishes, strict=True)):
        (alone,) = complete(
            model,
            [prompt],
            new,
            stop_ids=(7,),
            generator=[torch.Generator().manual_seed(seed)],
            logprobs=2,
            **options,
        )
        assert (request.ids, request.finish_reason) == (alone.ids, alone.finish_reason)
        assert [log_p for log_p, _ in request.logprobs] == pytest.approx(alone.logprobs, abs=1e-4)
        assert [list(best) for _, best in request.logprobs] == [
            list(best) for best in alone.top_logprobs
        ]


def test_a_long_prompt_does_not_stall_running_requests():
    engine = Engine(
        wild_model(replace(CONFIG, context_length=200)), max_num_seqs=3, max_num_batched_tokens=10
    )
    first = engine.submit(Request([1, 2], 60))
    engine.step()
    long = engine.submit(Request([3] * 100, 5))
    for step in range(1, 10):
        engine.step()
        assert len(first.ids) == 1 + step
        assert long.ids == []
    engine.step()
    assert len(long.ids) == 1


def test_first_come_first_served():
    """No request starts before one that arrived earlier."""
    engine = Engine(wild_model(CONFIG), max_num_seqs=2, max_num_batched_tokens=8)
    requests = [engine.submit(Request([i + 1] * (1 + 3 * i % 7), 6)) for i in range(9)]
    began: list[Request] = []
    while engine.busy:
        for request in engine.step():
            if request not in began:
                began.append(request)
    assert began == requests


def test_a_cancelled_request_frees_its_row_at_once():
    engine = Engine(wild_model(CONFIG), max_num_seqs=1)
    first, second, third = (engine.submit(Request([i], 20)) for i in (1, 2, 3))
    engine.step()
    engine.cancel(third)
    engine.cancel(first)
    assert (first.finish_reason, third.finish_reason) == ("cancelled", "cancelled")
    written = len(first.ids)
    assert engine.step() == [second]
    engine.finish()
    assert len(first.ids) == written
    assert len(second.ids) == 20
    assert third.ids == []
    engine.cancel(second)
    assert second.finish_reason == "length"


@pytest.mark.parametrize("n", [2, 5])
def test_a_common_prefix_is_computed_once(n):
    """Oracle: the number of tokens that go through the first block."""
    model = wild_model(replace(CONFIG, context_length=100))
    seen = []
    model.trf_blocks[0].register_forward_hook(
        lambda block, inputs, output: seen.append(inputs[0].shape[:2].numel())
    )
    engine = Engine(model, max_num_seqs=n, max_num_batched_tokens=1000)
    for seed in range(n):
        engine.submit(Request([5] * 60 + [seed], 1, seed=seed))
    engine.finish()
    assert sum(seen) == 61 + (n - 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(prompt=[]), "at least one token"),
        (dict(prompt=[1] * 25), "25 tokens, the model sees 24"),
        (dict(max_new_tokens=0), "max_new_tokens must be"),
        (dict(sampling=SamplingParams(suppress_tokens=[60])), "no token 60"),
    ],
)
def test_bad_requests_are_refused_on_arrival(arguments, words):
    engine = Engine(wild_model(CONFIG))
    with pytest.raises(ValueError, match=words):
        engine.submit(Request(**({"prompt": [1], "max_new_tokens": 2} | arguments)))
    assert not engine.busy
