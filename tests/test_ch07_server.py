"""The server, in a uvicorn thread with untrained float32 models, against the real `openai` client.
Oracles: `complete` for each request alone, the model's log-probabilities, jsonschema,
self-consistency.
"""

import asyncio
import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jsonschema
import pytest
import torch
from serving_setup import ASK, CONTEXT, Running, httpx, make_run, openai, step_by_step, until

from ch03_gpt import complete
from ch04_pretraining import load_checkpoint
from ch06_instruction.chat import prompt_ids
from ch07_practice.story_questions import story_prompt

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def server(run_folder):
    with Running(run_folder) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    return server.client()


@pytest.fixture(scope="module")
def sft(run_folder):
    return load_checkpoint(run_folder / "ch06_instruction" / "sft")


def alone(sft, messages, max_tokens, **options):
    """The model's own output."""
    model, tokenizer = sft
    stops = (tokenizer.eot_id, tokenizer.special_tokens["<|end|>"])
    (one,) = complete(
        model, [prompt_ids(tokenizer, messages)], max_tokens, stop_ids=stops, **options
    )
    return one, tokenizer.decode(one.ids)


def test_models_are_those_of_the_run(client):
    assert [model.id for model in client.models.list()] == ["base", "sft"]
    assert client.models.retrieve("sft").object == "model"
    with pytest.raises(openai.NotFoundError, match="no model 'nope'"):
        client.models.retrieve("nope")


def test_a_greedy_answer_is_the_models_own(client, sft):
    wanted, text = alone(sft, ASK, 40)
    reply = client.chat.completions.create(model="sft", messages=ASK, temperature=0, max_tokens=40)
    (choice,) = reply.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == (
        "assistant",
        text,
        wanted.finish_reason,
    )
    prompt = len(prompt_ids(sft[1], ASK))
    assert reply.usage.model_dump(
        include={"prompt_tokens", "completion_tokens", "total_tokens"}
    ) == {"prompt_tokens": prompt, "completion_tokens": 40, "total_tokens": prompt + 40}


def streamed(stream) -> dict[int, str]:
    """The texts of a stream by index."""
    texts: dict[int, str] = {}
    for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
    return texts


@pytest.mark.parametrize(
    "options",
    [
        dict(temperature=0),
        dict(temperature=1.2, seed=5, n=3),
        dict(temperature=0.9, top_p=0.8, seed=2),
        dict(temperature=0, frequency_penalty=1.5, presence_penalty=0.5),
        dict(temperature=0, logit_bias={"3": 30}),
    ],
)
@pytest.mark.parametrize("model", ["base", "sft"])
def test_a_stream_says_what_the_whole_answer_says(client, model, options):
    asked = dict(model=model, messages=ASK, max_tokens=30, **options)
    whole = client.chat.completions.create(**asked)
    assert streamed(client.chat.completions.create(**asked, stream=True)) == {
        choice.index: choice.message.content for choice in whole.choices
    }


def test_each_of_n_texts_is_drawn_with_a_seed_of_its_own(client, sft):
    """Oracle: the model alone with the generators seed, seed + 1, ..."""
    asked = dict(model="sft", messages=ASK, temperature=1.3, max_tokens=20, n=4, seed=11)
    texts = [choice.message.content for choice in client.chat.completions.create(**asked).choices]
    assert texts == [
        alone(sft, ASK, 20, temperature=1.3, generator=torch.Generator().manual_seed(11 + i))[1]
        for i in range(4)
    ]
    assert len(set(texts)) == 4
    unseeded = {
        client.chat.completions.create(**asked | {"seed": None, "n": 1}).choices[0].message.content
        for _ in range(4)
    }
    assert len(unseeded) > 1


def test_log_probabilities_are_the_models_own(client, sft):
    wanted, text = alone(sft, ASK, 25, logprobs=4)
    asked = dict(
        model="sft", messages=ASK, temperature=0, max_tokens=25, logprobs=True, top_logprobs=4
    )
    whole = client.chat.completions.create(**asked).choices[0].logprobs.content
    chunks = [
        chunk.choices[0].logprobs for chunk in client.chat.completions.create(**asked, stream=True)
    ]
    for entries in whole, [entry for found in chunks if found for entry in found.content]:
        assert [entry.logprob for entry in entries] == pytest.approx(wanted.logprobs, abs=1e-4)
        assert b"".join(bytes(entry.bytes) for entry in entries).decode("utf-8", "replace") == text
        for entry, best in zip(entries, wanted.top_logprobs, strict=True):
            assert [one.logprob for one in entry.top_logprobs] == pytest.approx(
                list(best.values()), abs=1e-4
            )
            assert [bytes(one.bytes) for one in entry.top_logprobs] == [
                sft[1].decode_bytes([i]) for i in best
            ]


def test_completions_take_texts_and_ids(client, sft):
    """Oracle: the model alone, on the same ids."""
    model, tokenizer = sft
    prompts = ["Tom went", "The café"]
    ids = [[tokenizer.eot_id, *tokenizer.encode(prompt)] for prompt in prompts]
    wanted = [tokenizer.decode(one.ids) for one in complete(model, ids, 12)]
    by_text, by_ids = (
        client.completions.create(
            model="sft", prompt=prompt, max_tokens=12, temperature=0, logprobs=2
        )
        for prompt in (prompts, ids)
    )
    assert (
        [choice.text for choice in by_text.choices]
        == [choice.text for choice in by_ids.choices]
        == wanted
    )
    assert "".join(by_text.choices[0].logprobs.tokens) == wanted[0]
    assert by_text.usage.prompt_tokens == sum(map(len, ids))
    one = client.completions.create(
        model="sft", prompt=ids[1], max_tokens=12, temperature=0, stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in one) == wanted[1]


def test_the_base_model_is_asked_in_its_own_form(client, run_folder):
    """Oracle: chapter 4's form by hand; its answer is one line."""
    model, tokenizer = load_checkpoint(run_folder / "ch04_pretraining" / "checkpoint")
    messages = [
        *ASK,
        {"role": "assistant", "content": "Q: Where is Tom?\nA: the mill"},
        {"role": "user", "content": "Is Tom at the lake?"},
    ]
    text = "Tom went to the mill.\nQ: Where is Tom?\nA: the mill\nQ: Is Tom at the lake?\nA:"
    assert story_prompt(messages) == text
    (written,) = complete(
        model, [[tokenizer.eot_id, *tokenizer.encode(text)]], 60, stop_ids=(tokenizer.eot_id,)
    )
    reply = client.chat.completions.create(
        model="base", messages=messages, temperature=0, max_tokens=60
    )
    assert reply.choices[0].message.content == tokenizer.decode(written.ids).split("\n")[0].lstrip()


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_ends_the_text_before_it(client, sft, stream):
    """Oracle: the unstopped text, cut by hand; the log-probabilities are of what is left."""
    text = alone(sft, ASK, 40)[1]
    stop = text[10:13]
    asked = dict(
        model="sft",
        messages=ASK,
        temperature=0,
        max_tokens=40,
        stop=["nowhere to be found", stop],
        logprobs=True,
    )
    reply = client.chat.completions.create(**asked, stream=stream)
    choices = [chunk.choices[0] for chunk in reply] if stream else reply.choices
    said = "".join((choice.delta if stream else choice.message).content or "" for choice in choices)
    assert said == text[: text.index(stop)]
    assert choices[-1].finish_reason == "stop"
    shown = "".join(
        entry.token for choice in choices if choice.logprobs for entry in choice.logprobs.content
    )
    assert shown.startswith(said) and len(shown) < len(said) + 12


SCHEMA = {
    "type": "object",
    "properties": {"who": {"enum": ["Tom", "Nora"]}, "n": {"type": "integer"}},
    "required": ["who", "n"],
    "additionalProperties": False,
}


@pytest.mark.slow
def test_json_obeys_the_schema_whatever_the_model(client):
    pytest.importorskip(
        "outlines_core", reason="outlines-core is not installed (pip install -e '.[json]')"
    )
    asked = dict(model="sft", messages=ASK, max_tokens=60, temperature=1.5, seed=1, n=6)
    form = {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
    }
    texts = [
        choice.message.content
        for choice in client.chat.completions.create(**asked, response_format=form).choices
    ]
    for text in texts:
        jsonschema.validate(json.loads(text), SCHEMA)
    assert len(set(texts)) > 1
    anything = client.chat.completions.create(**asked, response_format={"type": "json_object"})
    assert all(isinstance(json.loads(choice.message.content), dict) for choice in anything.choices)


def test_usage_is_streamed_where_it_is_asked_for(client):
    asked = dict(model="sft", messages=ASK, temperature=0, max_tokens=9)
    *_, last = client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    assert last.choices == []
    assert last.usage == client.chat.completions.create(**asked).usage


def nested(depth: int) -> dict:
    return {"type": "object", "properties": {"a": nested(depth - 1)}} if depth else {"type": "null"}


LONG = {
    "type": "json_schema",
    "json_schema": {"name": "x", "schema": {"type": "string", "maxLength": 10**6}},
}
DEEP = {"type": "json_schema", "json_schema": {"name": "x", "schema": nested(100)}}
REFUSED = [  # changes of a good chat request, or a body as it is; status; words of the message
    ({"model": "nope"}, 404, "there is no model 'nope'; choose one of base, sft"),
    ({"model": "\ud800"}, 404, "there is no model"),
    ({"model": 5}, 400, "model: Input should be a valid string"),
    ({"model": None}, 400, "model: Field required"),
    ({"messages": []}, 400, "at least one message"),
    ({"messages": [{"role": "poet", "content": "hm"}]}, 400, "unknown role 'poet'"),
    ({"messages": [*ASK, {"role": "assistant", "content": "So."}]}, 400, "user message"),
    ({"messages": [{"role": "user", "content": " "}]}, 400, "is empty"),
    (
        {"messages": [{"role": "user", "content": "word " * 300}]},
        400,
        f"the context of sft holds {CONTEXT}, including the answer",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        400,
        "messages.0.content",
    ),
    ({"temperature": -1}, 400, "temperature: Input should be greater than or equal to 0"),
    ({"temperature": "warm"}, 400, "temperature"),
    ({"top_p": 0}, 400, "top_p"),
    ({"top_k": 0}, 400, "top_k"),
    ({"max_tokens": 0}, 400, "max_tokens"),
    ({"max_completion_tokens": -4}, 400, "max_completion_tokens"),
    ({"n": 0}, 400, "n: "),
    ({"n": 1000}, 400, "n: "),
    ({"seed": 10**30}, 400, "seed"),
    ({"stop": ""}, 400, "stop"),
    ({"top_logprobs": 3}, 400, "top_logprobs needs logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, 400, "20"),
    ({"logit_bias": {"99999": 1}}, 400, "there is no token 99999"),
    ({"logit_bias": {"a": 1}}, 400, "logit_bias"),
    ({"tools": []}, 400, "tools: Extra inputs are not permitted"),
    ({"response_format": {"type": "json_schema"}}, 400, "must come together"),
    ({"response_format": {"type": "xml"}}, 400, "response_format.type"),
    ({"response_format": LONG}, 400, "more than"),
    ({"response_format": DEEP}, 400, "nested too deeply|cannot be used"),
    ({"response_format": {"type": "json_object"}, "max_tokens": 1}, 400, "may need 2 tokens"),
    (b'{"model": "sft", ', 400, "the body is not valid JSON"),
    (b"", 400, "the body: Field required"),
    (b"[" * 100_000, 400, "parsing the body|not valid JSON"),
    (b"[1, 2]", 400, "the body: Input should be"),
    (
        b'{"model": "sft", "messages": [], "temperature": NaN}',
        400,
        "temperature: Input should be a finite number",
    ),
    (b"\xff\xfe\x00", 400, "parsing the body|not valid JSON"),
    (b" " * (2**20 + 1), 413, "at most 1048576 bytes are accepted"),
]


@pytest.mark.parametrize(("change", "status", "words"), REFUSED)
def test_a_bad_request_is_refused_in_openais_shape(server, change, status, words):
    body = change
    if isinstance(change, dict):
        body = json.dumps({"model": "sft", "messages": ASK, "max_tokens": 5} | change).encode()
    reply = httpx.post(
        f"{server.url}/v1/chat/completions",
        content=body,
        headers={"Content-Type": "application/json"},
    )
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert re.search(words, error["message"]), error


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/v1/nothing", {}, 404),
        ("GET", "/v1/chat/completions", {}, 405),
        ("GET", "/story?seed=x", {}, 400),
        ("POST", "/v1/completions", {"json": {"model": "sft", "prompt": [[1, 2], [10**6]]}}, 400),
        ("POST", "/v1/completions", {"json": {"model": "sft", "prompt": []}}, 400),
        ("POST", "/v1/completions", {"json": {"model": "sft", "prompt": ""}}, 400),
        ("POST", "/v1/completions", {"json": {"model": "sft", "prompt": ["a"] * 20, "n": 20}}, 400),
        (
            "POST",
            "/v1/completions",
            {
                "content": '{"model": "sft", "prompt": "a"}',
                "headers": {"Content-Type": "text/plain"},
            },
            400,
        ),
    ],
)
def test_other_bad_requests(server, method, path, options, status):
    reply = httpx.request(method, server.url + path, **options)
    assert reply.status_code == status, reply.text
    assert reply.json()["error"]["message"]


def test_a_body_without_a_length_is_bounded_too(server):
    def stream_decode():
        for _ in range(40):
            yield b" " * 2**16

    reply = httpx.post(
        f"{server.url}/v1/completions",
        content=stream_decode(),
        headers={"Content-Type": "application/json"},
    )
    assert reply.status_code == 413
    assert reply.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.slow
def test_64_streams_at_once_each_get_what_they_would_get_alone(server, sft):
    """They share 16 rows, so they need far fewer steps than one after the other."""
    asked = [
        [
            {
                "role": "user",
                "content": f"Tom went to the mill {i} times.\nWhere is {'Tom' * (i % 4)}?",
            }
        ]
        for i in range(64)
    ]
    wanted = [alone(sft, messages, 15 + i % 20)[1] for i, messages in enumerate(asked)]
    engine = server.engine()
    steps, step = [], engine.step
    engine.step = lambda: steps.append(1) or step()

    async def one(client, i):
        stream = await client.chat.completions.create(
            model="sft", messages=asked[i], temperature=0, stream=True, max_tokens=15 + i % 20
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def everybody():
        async with server.client(kind=openai.AsyncOpenAI) as client:
            return await asyncio.gather(*(one(client, i) for i in range(64)))

    try:
        texts = asyncio.run(everybody())
    finally:
        del engine.step
    assert texts == wanted
    assert len(steps) < sum(15 + i % 20 for i in range(64)) / 3


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_disconnects_frees_its_rows(server, stream):
    """Both running and waiting texts end long before their last token."""
    body = {
        "model": "sft",
        "messages": ASK,
        "max_tokens": 100,
        "temperature": 0,
        "stream": stream,
        "n": 17,
    }
    with step_by_step(server) as gate:
        gate.release()
        with httpx.Client() as gone, pytest.raises(httpx.ReadTimeout):
            gone.post(
                f"{server.url}/v1/chat/completions", json=body, timeout=httpx.Timeout(5, read=0.5)
            )
        until(lambda: not server.queue.handles)
        gate.release(2)
        until(lambda: not server.engine().busy)


def test_a_full_queue_is_429(run_folder):
    body = {"model": "sft", "messages": ASK, "max_tokens": 4, "temperature": 0}
    replies = []
    with Running(run_folder, max_num_seqs=1, max_queue=2) as server:
        threads = [
            threading.Thread(
                target=lambda: replies.append(
                    httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)
                )
            )
            for _ in range(2)
        ]
        with step_by_step(server):
            for thread in threads:
                thread.start()
            until(lambda: len(server.queue.handles) == 2)
            with pytest.raises(
                openai.RateLimitError,
                match="2 texts are waiting or running and at most 2 are allowed",
            ):
                server.client().chat.completions.create(**body)
        for thread in threads:
            thread.join()
        server.client().chat.completions.create(**body)
    assert [reply.status_code for reply in replies] == [200, 200]


def test_a_key_is_asked_for_where_there_is_one(run_folder):
    with Running(run_folder, api_key="sésame", hosts=("127.0.0.1", "localhost")) as server:
        with pytest.raises(openai.AuthenticationError, match="needs its key"):
            server.client("guess").models.list()
        for path in ("/v1/models", "/story", "/metrics"):
            assert httpx.get(server.url + path).status_code == 401
            key = {"Authorization": "Bearer sésame".encode()}
            assert httpx.get(server.url + path, headers=key).status_code == 200
        assert httpx.get(server.url + "/health").status_code == 200
        rebound = httpx.get(server.url + "/health", headers={"Host": "evil.example"})
        assert rebound.status_code == 403


def test_a_failed_step_is_500_and_the_next_request_is_served(server, client, monkeypatch):
    engine = server.engine()
    monkeypatch.setattr(engine, "_decode", lambda decoding: 1 / 0)
    with pytest.raises(openai.InternalServerError, match="generation failed"):
        client.chat.completions.create(model="sft", messages=ASK, max_tokens=5)
    with pytest.raises(openai.APIError, match="generation failed"):
        list(client.chat.completions.create(model="sft", messages=ASK, max_tokens=5, stream=True))
    monkeypatch.undo()
    assert (
        client.chat.completions.create(
            model="sft", messages=ASK, temperature=0, max_tokens=5
        ).usage.completion_tokens
        == 5
    )


def test_health_and_metrics_report_what_was_done(run_folder):
    with Running(run_folder) as server:
        asked = dict(model="sft", messages=ASK, temperature=0, max_tokens=7)
        reply, _ = (server.client().chat.completions.create(**asked) for _ in range(2))
        health = httpx.get(f"{server.url}/health").json()
        assert health == {
            "status": "ok",
            "models": ["base", "sft"],
            "loaded": ["sft"],
            "unfinished": 0,
        }
        found = dict(
            line.rsplit(" ", 1)
            for line in httpx.get(f"{server.url}/metrics").text.splitlines()
            if not line.startswith("#")
        )
        assert float(found['llm_tokens_total{kind="generated",model="sft"}']) == 14
        assert (
            float(found['llm_tokens_total{kind="prompt",model="sft"}'])
            == 2 * reply.usage.prompt_tokens
        )
        assert float(found['llm_responses_total{path="/v1/chat/completions",status="200"}']) == 2
        assert float(found["llm_unfinished_texts"]) == 0


def test_a_story_comes_with_a_question_and_its_true_answer(server):
    one, same, other = (httpx.get(f"{server.url}/story?seed={seed}").json() for seed in (3, 3, 4))
    assert one == same != other
    assert set(one) == {"story", "question", "answer"}
    assert one["question"].endswith("?") and one["answer"]


def command(run_folder: Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "ch07_practice/main.py", "serve", "--run", str(run_folder), *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_the_command_finishes_running_answers_and_writes_nothing(run_folder):
    """SIGINT while an answer streams: the answer is whole, the process ends with 0."""
    before = sorted(path for path in run_folder.rglob("*"))
    process = command(run_folder, "--port", "0", "--weights", "float32")
    url = re.search(r"http://127.0.0.1:\d+", process.stdout.readline()).group()
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    asked = dict(model="sft", messages=ASK, max_tokens=100, temperature=0)
    wanted = client.chat.completions.create(**asked).choices[0].message.content
    stream = client.chat.completions.create(**asked, stream=True)
    next(stream)
    process.send_signal(signal.SIGINT)
    assert streamed(stream) == {0: wanted}
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert sorted(path for path in run_folder.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "99999"], "--port must be 0 (any free one) to 65535, not 99999"),
        (["--max-num-seqs", "0"], "--max-num-seqs must be at least 1"),
        (["--max-num-seqs", "64", "--max-queue", "2"], "--max-queue 2 at least --max-num-seqs 64"),
        (["--host", "256.0.0.1"], "error: "),
    ],
)
def test_the_command_refuses_wrong_options_in_one_line(run_folder, arguments, words):
    process = command(run_folder, *arguments)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.splitlines()[-1].startswith("error: ") and words in errors
    assert "Traceback" not in errors
