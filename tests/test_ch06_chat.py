"""Conversations as tokens and batches, and instruction tuning. Oracles: ids written by hand, loops,
each conversation alone, brute force, self-consistency.
"""

import math
import re
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ch01_text import IGNORE, BPETokenizer, CharTokenizer
from ch03_gpt import GPTModel, generate, pick_precision, preset_config
from ch04_pretraining import load_checkpoint, save_checkpoint
from ch05_classification.encoding import shuffled_groups
from ch06_instruction import answering
from ch06_instruction.answering import Chat
from ch06_instruction.batches import chat_batches, collate, pack
from ch06_instruction.chat import (
    END,
    SPECIALS,
    EncodedChat,
    chat_model,
    chat_tokenizer,
    check_conversation,
    encode_chat,
    encode_response,
    prompt_ids,
    with_response,
)
from ch06_instruction.config import SFTConfig
from ch06_instruction.evaluation import evaluate_sampled
from ch06_instruction.sft import add_lora, mean_response_loss, response_loss, train_sft

CPU = pick_precision(torch.device("cpu"), "float32")
BYTES = BPETokenizer.train("any text", 257)  # GPT-2's order: "!" is 0, "a" is 64, "b" is 65
TOKENIZER = chat_tokenizer(
    BPETokenizer.train("yes or no, is it so? the mill, the lake, the house. " * 3, 280)
)
N_VOCAB = TOKENIZER.n_vocab

CONTENT = (
    st.lists(
        st.sampled_from(["a", "yes", " no", "é", "\n", *SPECIALS, "<|endoftext|>", "<|", "|>"]),
        min_size=1,
        max_size=8,
    )
    .map("".join)
    .filter(str.strip)
)


@st.composite
def conversation(draw):
    system = [{"role": "system", "content": draw(CONTENT)}] if draw(st.booleans()) else []
    roles = ("user", "assistant") * 4
    return system + [
        {"role": role, "content": draw(CONTENT)} for role in roles[: draw(st.integers(1, 8))]
    ]


def say(*contents: str, system: str | None = None) -> list[dict]:
    """Messages of the user and the assistant in turn."""
    messages = [
        {"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)
    ]
    return messages if system is None else [{"role": "system", "content": system}, *messages]


def gpt(seed: int = 0, **changes) -> GPTModel:
    torch.manual_seed(seed)
    model = GPTModel(
        preset_config("tiny", **{"vocab_size": N_VOCAB, "emb_dim": 32, "n_heads": 2} | changes)
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def chats_of(lengths: list[int], seed: int = 0) -> list[EncodedChat]:
    """Random ids that begin with `<|endoftext|>`; which are learned is random, too, but the last
    one is.
    """
    generator = np.random.default_rng(seed)
    return [
        EncodedChat(
            [TOKENIZER.eot_id, *generator.integers(0, 256, n - 1).tolist()],
            [False, *(generator.random(n - 2) < 0.5).tolist(), True],
        )
        for n in lengths
    ]


# the template


def test_a_conversation_is_these_ids():
    """Oracle: ids and mask written by hand; the specials follow the 257 ids that were there."""
    tokenizer = chat_tokenizer(BYTES)
    system, user, assistant, end = range(257, 261)
    found = encode_chat(tokenizer, say("ab", "b!", "a", "bb", system="!"))
    assert found.ids == [
        256,
        system,
        0,
        end,
        user,
        64,
        65,
        end,
        assistant,
        65,
        0,
        end,
        user,
        64,
        end,
        assistant,
        65,
        65,
        end,
    ]
    assert [int(learned) for learned in found.assistant_mask] == [
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        1,
        1,
        1,
        0,
        0,
        0,
        0,
        1,
        1,
        1,
    ]
    assert not found.truncated
    assert prompt_ids(tokenizer, say("ab", "b!", "a")) == [
        256,
        user,
        64,
        65,
        end,
        assistant,
        65,
        0,
        end,
        user,
        64,
        end,
        assistant,
    ]


@given(conversation())
def test_no_message_can_speak_for_another(messages):
    """Oracle: the template as text; whatever is typed, there are as many special tokens as the
    template has.
    """
    found = encode_chat(TOKENIZER, messages)
    text = "".join(f"<|{message['role']}|>{message['content']}{END}" for message in messages)
    assert TOKENIZER.decode(found.ids) == "<|endoftext|>" + text
    special = [i for i in found.ids if i in TOKENIZER.special_tokens.values()]
    names = {i: token for token, i in TOKENIZER.special_tokens.items()}
    assert [names[i] for i in special] == [
        "<|endoftext|>",
        *(token for message in messages for token in (f"<|{message['role']}|>", END)),
    ]


def said_by_the_assistant(ids: list[int]) -> list[bool]:
    roles = {
        TOKENIZER.special_tokens[f"<|{role}|>"]: role for role in ("system", "user", "assistant")
    }
    speaker, said = None, []
    for token in ids:
        said.append(speaker == "assistant" and token not in roles)
        speaker = roles.get(token, speaker)
    return said


@given(conversation())
def test_only_what_the_assistant_says_is_learned(messages):
    """Oracle: a walk over the ids that remembers who speaks."""
    found = encode_chat(TOKENIZER, messages)
    assert found.assistant_mask == said_by_the_assistant(found.ids)
    learned = TOKENIZER.decode(
        [token for token, said in zip(found.ids, found.assistant_mask, strict=True) if said]
    )
    assert learned == "".join(
        message["content"] + END for message in messages if message["role"] == "assistant"
    )


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "at least one message"),
        (["hello"], "message 1 must have a role and a content, not 'hello'"),
        ([{"role": "user"}], "message 1 must have a role and a content"),
        (
            [{"role": "tool", "content": "b"}],
            "message 1 has the unknown role 'tool'; the roles are system, user",
        ),
        (
            [*say("a", "b"), {"role": "system", "content": "c"}],
            "message 3 is a system message; only the first one may be",
        ),
        (
            [{"role": "assistant", "content": "a"}],
            "message 1 is from the assistant, but it is the user's turn",
        ),
        (
            [{"role": "system", "content": "a"}],
            "the conversation has only a system message; add a user message",
        ),
        (say("a") * 2, "message 2 is from the user, but it is the assistant's turn"),
        (
            say("a", "b", system="s") + say("c", "d")[1:],
            "message 4 is from the assistant, but it is the user's turn",
        ),
        (say("a", " \n"), "message 2, from the assistant, is empty"),
        ([{"role": "user", "content": 7}], "message 1, from the user, is empty"),
    ],
)
def test_what_is_no_conversation_is_refused(messages, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        check_conversation(messages)
    with pytest.raises(ValueError, match=re.escape(words)):
        encode_chat(TOKENIZER, messages)


def truncated_by_force(messages: list[dict], context: int) -> list[int] | None:
    """Forget one exchange after the other until the rest fits, then one token of the user's
    after the other.
    """
    system = [message for message in messages if message["role"] == "system"]
    rest = messages[len(system) :]
    while True:
        ids = encode_chat(TOKENIZER, system + rest).ids
        if len(ids) <= context + 1:
            return ids
        if len(rest) <= 2:
            break
        rest = rest[2:]
    first = ids.index(TOKENIZER.special_tokens["<|user|>"]) + 1
    while len(ids) > context + 1:
        del ids[first]
        if ids[first] == TOKENIZER.special_tokens[END]:
            return None
    return ids


@given(conversation(), st.integers(-40, 2))
@settings(max_examples=200)
@example(say("a", "b", "a", "b", "a"), 0)
@example(say("a", "b", "a", "b", "a"), -1)
def test_what_does_not_fit_is_forgotten_oldest_first(messages, spare):
    """Oracle: brute force, which takes nothing from the system's message and the last answer.
    Inputs and targets fit the context, which has `spare` more places than the conversation needs.
    """
    context = max(1, len(encode_chat(TOKENIZER, messages).ids) - 1 + spare)
    expected = truncated_by_force(messages, context)
    if expected is None:
        with pytest.raises(
            ValueError,
            match=rf"the last exchange has \d+ tokens, {context} fit; shorten the answer",
        ):
            encode_chat(TOKENIZER, messages, context)
        return
    found = encode_chat(TOKENIZER, messages, context)
    assert found.ids == expected
    assert found.assistant_mask == said_by_the_assistant(expected)
    assert found.truncated == (len(encode_chat(TOKENIZER, messages).ids) > context + 1)
    assert collate([found], 0)[0].shape[1] <= context
    if messages[-1]["role"] == "user":
        assert prompt_ids(TOKENIZER, messages, context + 1) == [
            *found.ids,
            TOKENIZER.special_tokens["<|assistant|>"],
        ]


def test_a_prompt_ends_with_the_user_and_needs_room():
    with pytest.raises(ValueError, match="a prompt ends with a user message"):
        prompt_ids(TOKENIZER, say("a", "b"))
    with pytest.raises(ValueError, match="a prompt ends with a user message"):
        prompt_ids(TOKENIZER, [])
    for context in (0, 1, 3):
        with pytest.raises(ValueError, match=r"the last exchange has 3 tokens, -?\d fit"):
            prompt_ids(TOKENIZER, say("yes"), context)


# tokenizer and model


def test_a_chat_tokenizer_only_adds(tmp_path):
    """Oracle: the tokenizer it was made of; GPT-2's numbering, where `<|endoftext|>` is the last
    id.
    """
    tokens = [bytes([i]) for i in range(256)] + [b" t", b"he"]
    plain = BPETokenizer(tokens, {"<|endoftext|>": 258})
    made = chat_tokenizer(plain)
    assert plain.special_tokens == {"<|endoftext|>": 258}
    assert made.special_tokens == {
        "<|endoftext|>": 258,
        "<|system|>": 259,
        "<|user|>": 260,
        "<|assistant|>": 261,
        "<|end|>": 262,
    }
    assert (made.n_vocab, made.eot_id) == (263, 258)
    assert made.encode("the <|end|>", allowed_special={"<|end|>"})[-1] == 262
    assert made.encode("the <|end|>") == plain.encode("the <|end|>")
    assert chat_tokenizer(made) is made
    made.save(tmp_path)
    assert chat_tokenizer(BPETokenizer.load(tmp_path)).special_tokens == made.special_tokens
    some = chat_tokenizer(BPETokenizer(tokens, {"<|user|>": 258, "<|endoftext|>": 259}))
    assert some.special_tokens == {
        "<|user|>": 258,
        "<|endoftext|>": 259,
        "<|system|>": 260,
        "<|assistant|>": 261,
        "<|end|>": 262,
    }


def test_a_tokenizer_without_special_tokens_is_refused():
    with pytest.raises(ValueError, match="which has special tokens, not CharTokenizer"):
        chat_tokenizer(CharTokenizer.train("abc"))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_embeddings": False},
        {"position": "learned"},
        {"ffn": "swiglu", "norm": "rmsnorm", "n_kv_heads": 1, "tie_embeddings": False},
    ],
)
def test_more_tokens_leave_the_old_ones_logits_alone(changes):
    """Oracle: the model before; a new row is the mean of the old ones."""
    model = gpt(vocab_size=50, **changes)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    bigger = chat_model(model, 55).eval()
    ids = torch.randint(0, 50, (3, 20), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(bigger(ids)[..., :50], model(ids), atol=1e-5, rtol=1e-5)
    for table in ("tok_emb.weight", "out_head.weight"):
        torch.testing.assert_close(
            bigger.state_dict()[table][50:], before[table].mean(0).expand(5, -1)
        )
    assert (bigger.out_head.weight is bigger.tok_emb.weight) == model.config.tie_embeddings
    assert bigger.config.vocab_size == 55
    torch.nn.init.zeros_(bigger.tok_emb.weight)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert chat_model(model, 30).config == model.config  # ids that no token has stay


def test_only_rotary_positions_can_be_lengthened():
    """Oracle: the short model, within its context."""
    model = gpt(context_length=16)
    longer = chat_model(model, N_VOCAB, 40).eval()
    ids = torch.arange(40).unsqueeze(0)
    with torch.inference_mode():
        torch.testing.assert_close(longer(ids)[:, :16], model(ids[:, :16]), atol=1e-5, rtol=1e-5)
    table = gpt(context_length=16, position="learned")
    with pytest.raises(
        ValueError, match="only a model with rotary positions can get a longer context"
    ):
        chat_model(table, N_VOCAB, 40)
    assert chat_model(table, N_VOCAB, 16).config.context_length == 16


# batches

LENGTHS = st.lists(st.integers(2, 20), min_size=1, max_size=6)


@given(LENGTHS, st.integers(0, N_VOCAB - 1), st.booleans())
def test_collate_is_a_loop(lengths, pad, train_on_prompt):
    chats = chats_of(lengths)
    inputs, targets = collate(chats, pad, train_on_prompt=train_on_prompt)
    assert inputs.shape == targets.shape == (len(lengths), max(lengths) - 1)
    for row, chat in enumerate(chats):
        for t in range(max(lengths) - 1):
            inside = t < len(chat.ids) - 1
            assert inputs[row, t] == (chat.ids[t] if inside else pad)
            assert targets[row, t] == (
                chat.ids[t + 1]
                if inside and (train_on_prompt or chat.assistant_mask[t + 1])
                else IGNORE
            )


@given(LENGTHS, st.integers(0, N_VOCAB - 1))
@settings(max_examples=25)
def test_the_loss_is_that_of_each_learned_token_alone(lengths, pad):
    """Oracle: one conversation at a time, a softmax over the whole vocabulary at every position, a
    loop over those that the assistant said; so padding counts for nothing.
    """
    model, chats = gpt(), chats_of(lengths)
    losses = []
    with torch.inference_mode():
        for chat in chats:
            log_p = model(torch.tensor([chat.ids[:-1]]))[0].log_softmax(dim=-1)
            losses += [
                -log_p[t, chat.ids[t + 1]].item()
                for t in range(len(chat.ids) - 1)
                if chat.assistant_mask[t + 1]
            ]
        total, count = response_loss(model, collate(chats, pad))
    assert count == len(losses)
    assert total.item() == pytest.approx(sum(losses), rel=1e-5)
    assert mean_response_loss(model, chats, pad, CPU, batch_size=2) == pytest.approx(
        np.mean(losses), rel=1e-5
    )


def test_the_padding_id_changes_no_bit_of_the_loss():
    model, chats = gpt(), chats_of([3, 17, 9])
    with torch.inference_mode():
        first, second = (response_loss(model, collate(chats, pad))[0] for pad in (0, 200))
    assert torch.equal(first, second)


def test_train_on_prompt_counts_where_asked():
    """Oracle: cross-entropy over all tokens, by PyTorch."""
    model, (chat,) = gpt(), chats_of([12])
    ids = torch.tensor([chat.ids])
    total, count = response_loss(model, collate([chat], 0, train_on_prompt=True))
    assert count == 11
    torch.testing.assert_close(
        total, F.cross_entropy(model(ids[:, :-1])[0], ids[0, 1:], reduction="sum")
    )


@given(st.lists(st.integers(2, 20), max_size=30), st.integers(20, 60))
def test_packing_keeps_every_conversation_whole(lengths, room):
    """Oracle: rows split at `<|endoftext|>` are the conversations; and no two rows would fit
    into one.
    """
    chats = chats_of(lengths)
    before = [(list(chat.ids), list(chat.assistant_mask)) for chat in chats]
    rows = pack(chats, room)
    found = []
    for row in rows:
        assert len(row.ids) == len(row.assistant_mask) <= room
        starts = [i for i, token in enumerate(row.ids) if token == TOKENIZER.eot_id] + [
            len(row.ids)
        ]
        found += [(row.ids[a:b], row.assistant_mask[a:b]) for a, b in pairwise(starts)]
    assert sorted(found) == sorted(before)
    assert before == [(chat.ids, chat.assistant_mask) for chat in chats]
    assert all(len(one.ids) + len(other.ids) > room for one, other in combinations(rows, 2))


def test_what_stands_behind_a_conversation_does_not_change_its_loss():
    """Oracle: the first conversation of a packed row alone."""
    model, chats = gpt(), chats_of([12, 9, 20])
    (row,) = pack(chats, 50)
    first = max(chats, key=lambda chat: len(chat.ids))
    with torch.inference_mode():
        inputs, targets = collate([row], 0)
        packed = response_loss(model, (inputs[:, :19], targets[:, :19]))
        targets[:, 19:] = IGNORE
        behind = response_loss(model, (inputs, targets))
        alone = response_loss(model, collate([first], 0))
    for found in (packed, behind):
        torch.testing.assert_close(found, alone)


@pytest.mark.parametrize(("n", "batch_size"), [(50, 8), (1, 4), (300, 4)])
def test_shuffled_batches_show_every_row_once_a_pass(n, batch_size):
    lengths = np.random.default_rng(0).integers(2, 30, n)
    supply = shuffled_groups(lengths, batch_size, np.random.default_rng(0))
    passes = []
    for _ in range(2):
        seen = []
        while len(seen) < n:
            group = next(supply)
            assert 1 <= len(group) <= batch_size
            seen += group
        assert sorted(seen) == list(range(n))
        passes.append(seen)
    assert n == 1 or passes[0] != passes[1]
    with pytest.raises(ValueError, match="nothing to make batches of"):
        next(shuffled_groups([], batch_size, np.random.default_rng(0)))


def test_batches_hold_the_conversations():
    chats = chats_of([5, 9, 7, 5])
    inputs, targets = next(chat_batches(chats, 4, 0, np.random.default_rng(0)))
    expected = collate(sorted(chats, key=lambda chat: len(chat.ids)), 0)
    assert sorted(zip(inputs.tolist(), targets.tolist(), strict=True)) == sorted(
        zip(*(tensor.tolist() for tensor in expected), strict=True)
    )


# answers


def test_answers_come_in_the_order_of_the_questions(monkeypatch):
    """Oracle: `generate`, one prompt at a time; the longest question is cut so that the answer
    has room.
    """
    monkeypatch.setattr(answering, "MAX_NEW_TOKENS", 10)
    model = gpt(seed=3)
    end = TOKENIZER.special_tokens[END]
    chat = Chat(model, TOKENIZER, CPU)
    asked = [
        say(text) for text in ("is it so?", "yes " * 100, "no", "the mill, the lake", "say no")
    ]
    expected = []
    for messages in asked:
        prompt = chat.prompt(messages)
        assert len(prompt) - 1 + 10 <= 64
        ids = generate(model, torch.tensor([prompt]), 10, stop_ids=(end,))[
            0, len(prompt) :
        ].tolist()
        expected.append(TOKENIZER.decode(ids[: ids.index(end)] if end in ids else ids))
    assert len(set(expected)) > 2
    for batch_size in (1, 2, 128):
        assert chat.respond(asked, batch_size=batch_size) == expected
    assert chat.respond(asked, num_generations=2, batch_size=4) == [
        text for text in expected for _ in range(2)
    ]


@given(
    conversation().filter(lambda messages: messages[-1]["role"] == "assistant"), st.integers(-30, 2)
)
def test_a_response_is_encoded_as_in_its_conversation(messages, spare):
    """Oracle: `encode_chat`, wherever the last exchange fits; only the response is learned."""
    context = max(1, len(encode_chat(TOKENIZER, messages).ids) - 1 + spare)
    *prompt, last = messages
    try:
        expected = encode_chat(TOKENIZER, messages, context)
    except ValueError:
        with pytest.raises(ValueError, match="the last exchange has"):
            encode_response(TOKENIZER, prompt, last["content"], context)
        return
    found = encode_response(TOKENIZER, prompt, last["content"], context)
    n = len(TOKENIZER.encode(last["content"])) + 1
    assert found.ids == expected.ids
    assert found.assistant_mask == [False] * (len(found.ids) - n) + [True] * n


def test_an_empty_response_can_be_encoded():
    found = encode_response(TOKENIZER, say("yes"), "")
    assert found.ids == [*prompt_ids(TOKENIZER, say("yes")), TOKENIZER.special_tokens[END]]


def test_the_longest_prompt_with_the_longest_answer_fits_the_context(monkeypatch):
    """Oracle: the model, which refuses what is too long."""
    monkeypatch.setattr(answering, "MAX_NEW_TOKENS", 10)
    model = gpt()
    with torch.no_grad():
        model.tok_emb.weight[TOKENIZER.special_tokens[END]] = 0  # an answer hardly ever ends
    chat = Chat(model, TOKENIZER, CPU)
    prompt = chat.prompt(say("yes " * 100))
    sampled = chat.sample(
        [prompt], num_generations=4, temperature=1.0, generator=torch.Generator().manual_seed(0)
    )
    inputs, targets = collate([with_response(prompt, ids) for ids in sampled], 0)
    assert inputs.shape == (4, 64)
    assert (targets >= 0).sum(dim=1).max() == 10
    assert torch.isfinite(response_loss(model, (inputs, targets))[0])


def test_sampled_responses_are_graded_once_each(monkeypatch):
    """Oracle: a script in the model's place that knows every second answer."""
    prompts, answers = [say(f"say {i}") for i in range(9)], [str(i) for i in range(9)]
    calls = []

    def respond(self, prompts, num_generations, temperature, generator, description):
        calls.append((prompts, num_generations, temperature))
        return [f"I say\n{answer}" if int(answer) % 2 else "?" for answer in answers]

    monkeypatch.setattr(Chat, "respond", respond)
    found = evaluate_sampled(Chat(None, None, None), prompts, answers, torch.Generator())
    assert calls == [(prompts, 1, 1.0)]
    assert (found["n"], found["exact_match"]) == (9, 4 / 9)
    assert found["ci95_low"] < found["exact_match"] < found["ci95_high"]


# instruction tuning


def test_tuning_learns_what_the_assistant_says():
    """Oracle: the entropy. Each question has two answers, equally often; nothing can be below
    log 2 an answer.
    """
    texts = [
        ("is it so?", "yes"),
        ("is it so?", "no"),
        ("the mill?", "mill"),
        ("the mill?", "lake"),
    ]
    chats = [encode_chat(TOKENIZER, say(*pair)) for pair in texts]
    torch.manual_seed(0)
    model = chat_model(GPTModel(preset_config("tiny", vocab_size=N_VOCAB - 4, n_layers=1)), N_VOCAB)
    progress = train_sft(
        model,
        chats * 40,
        chats,
        SFTConfig(epochs=4, batch_size=4, lr=3e-3, optimizer="muon"),
        TOKENIZER.eot_id,
        CPU,
    )
    assert progress.step == 160
    tokens = np.mean([sum(chat.assistant_mask) for chat in chats])
    loss = mean_response_loss(model, chats, TOKENIZER.eot_id, CPU)
    assert loss == progress.log[-1]["val_loss"]
    assert math.log(2) < loss * tokens < math.log(2) + 0.05


def tune_with_lora(model: GPTModel) -> None:
    config = SFTConfig(batch_size=4, lora_rank=2)
    train_sft(model, chats_of([9] * 8), chats_of([9]), config, 0, CPU)


@pytest.mark.parametrize("tied", [True, False])
def test_lora_trains_adapters_and_embeddings(tied, monkeypatch):
    """Oracle: which weights training changes; every matrix of a block has an adapter, and nothing
    else of a block changes.
    """
    monkeypatch.setattr("ch06_instruction.sft.merge_lora", lambda model: None)
    model = gpt(tie_embeddings=tied)
    n_matrices = sum(p.dim() == 2 for p in model.trf_blocks.parameters())
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    tune_with_lora(model)
    changed = {
        name.replace(".linear.", ".")
        for name, p in model.named_parameters()
        if not torch.equal(p, before.get(name.replace(".linear.", "."), torch.empty(0)))
    }
    adapters = {name for name in changed if ".lora." in name}
    assert len(adapters) == 2 * n_matrices
    assert changed - adapters == (
        {"tok_emb.weight"} if tied else {"tok_emb.weight", "out_head.weight"}
    )


def test_after_lora_the_checkpoint_opens_and_gives_the_same_logits(tmp_path):
    """Oracle: the tuned model in memory; and the layers of the model before, all of which learn
    again.
    """
    model = gpt()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    tune_with_lora(model)
    save_checkpoint(tmp_path / "sft", model, TOKENIZER)
    loaded, _ = load_checkpoint(tmp_path / "sft")
    ids = torch.arange(20).unsqueeze(0)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.eval()(ids), model.eval()(ids), rtol=0, atol=0)
    assert [name for name, _ in loaded.named_parameters()] == list(before)
    assert not torch.equal(
        model.trf_blocks[0].att.out_proj.weight, before["trf_blocks.0.att.out_proj.weight"]
    )
    assert all(p.requires_grad for p in model.parameters())
    tune_with_lora(model)  # a second time


def test_adapters_are_made_on_the_device_of_the_model():
    """Oracle: PyTorch's device without memory, in the place of a GPU."""
    model = gpt().to("meta")
    add_lora(model, 2, 4.0)
    assert {p.device.type for p in model.parameters()} == {"meta"}
