"""Conversations as tokens: who speaks is a special token, and only what the assistant says is
learned.

    <|endoftext|><|user|>a story and a question<|end|><|assistant|>the answer<|end|>

The words between are encoded without special tokens, so that nobody can type one. The roles are
those of today's chat models; a book's Alpaca prompt is an ordinary user's message here
(`conversations.alpaca_prompt`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ch01_text import BPETokenizer
from ch03_gpt import GPTModel

ROLES = ("system", "user", "assistant")
END = "<|end|>"
SPECIALS = (*(f"<|{role}|>" for role in ROLES), END)
# The same format for other programs: it is saved in tokenizer_config.json.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

Message = dict[str, str]  # {"role": ..., "content": ...}


def check_conversation(messages: Sequence[Message]) -> None:
    """ValueError where the messages are not: perhaps one of the system, then user and assistant
    in turn.
    """
    if not messages:
        raise ValueError("a conversation needs at least one message")
    expected = ("user",)
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict) or not {"role", "content"} <= set(message):
            raise ValueError(f"message {number} must have a role and a content, not {message!r}")
        role, content = message["role"], message["content"]
        if role not in ROLES:
            raise ValueError(
                f"message {number} has the unknown role {role!r}; the roles are {', '.join(ROLES)}"
            )
        if role == "system" and number > 1:
            raise ValueError(f"message {number} is of the system; only the first may be")
        if role != "system" and role not in expected:
            raise ValueError(
                f"message {number} is of the {role}, but it is the {expected[0]}'s turn"
            )
        if not isinstance(content, str) or not content.strip():
            raise ValueError(f"message {number}, of the {role}, is empty")
        expected = ("user",) if role in ("system", "assistant") else ("assistant",)
    if messages[-1]["role"] == "system":
        raise ValueError("only the system speaks; add a message of the user")


def chat_tokenizer(tokenizer: BPETokenizer) -> BPETokenizer:
    """`tokenizer` with a special token for each role and one that ends a message; itself where it
    has them.

    ValueError where it is of another kind than byte-pair.
    """
    if not isinstance(tokenizer, BPETokenizer):
        raise ValueError(
            "chat needs a byte-pair tokenizer, which has special tokens, not"
            f" {type(tokenizer).__name__}"
        )
    new = [token for token in SPECIALS if token not in tokenizer.special_tokens]
    if not new and tokenizer.chat_template == TEMPLATE:
        return tokenizer
    specials = tokenizer.special_tokens | {
        token: tokenizer.n_vocab + i for i, token in enumerate(new)
    }
    return replace(tokenizer, special_tokens=specials, eos_token=END, chat_template=TEMPLATE)


@torch.no_grad()
def chat_model(model: GPTModel, n_vocab: int, context_length: int | None = None) -> GPTModel:
    """A copy of `model` with a row of the embedding for every token, the new ones beginning as the
    mean of the old (Hewitt 2021), and, for rotary positions, any context length.
    """
    if (
        context_length
        and model.config.position != "rope"
        and context_length != model.config.context_length
    ):
        raise ValueError("a context can only be lengthened where positions are rotary")
    config = replace(
        model.config,
        vocab_size=max(n_vocab, model.config.vocab_size),
        context_length=context_length or model.config.context_length,
    )
    other = GPTModel(config)
    state = model.state_dict()
    for name in ("tok_emb.weight", "out_head.weight"):
        old = state[name]
        extra = old.mean(dim=0).expand(config.vocab_size - len(old), -1)
        state[name] = torch.cat((old, extra))
    other.load_state_dict(state)
    return other.to(model.device)


@dataclass(frozen=True)
class EncodedChat:
    """A conversation as ids, and which of them the assistant said."""

    ids: list[int]
    said: list[bool]  # the assistant's words and the end of each of its messages
    truncated: bool = False


def encode_message(tokenizer: BPETokenizer, message: Message) -> tuple[list[int], list[bool]]:
    """One message -> its ids, and which of them are learned."""
    special = tokenizer.special_tokens
    words = tokenizer.encode(message["content"])
    learned = message["role"] == "assistant"
    return [special[f"<|{message['role']}|>"], *words, special[END]], [
        False,
        *[learned] * (len(words) + 1),
    ]


def encode_chat(
    tokenizer: BPETokenizer, messages: Sequence[Message], context_length: int | None = None
) -> EncodedChat:
    """A conversation -> ids and learned ones.

    What exceeds `context_length` (+ 1, since the last token is only predicted): whole exchanges are
    forgotten, the oldest first, but not what the system said; the last one loses the beginning of
    its user's message. ValueError where even that leaves no room.
    """
    check_conversation(messages)
    parts = [encode_message(tokenizer, message) for message in messages]
    # beside <|endoftext|>, with one predicted
    room = float("inf") if context_length is None else context_length
    first = int(messages[0]["role"] == "system")
    total = sum(len(ids) for ids, _ in parts)
    truncated = total > room
    while total > room and len(parts) - first > 2:
        total -= sum(len(ids) for ids, _ in parts[first : first + 2])
        del parts[first : first + 2]
    if total > room:
        ids, said = parts[first]
        excess = int(total - room)
        if len(ids) - 2 <= excess:
            raise ValueError(
                f"the last exchange has {int(total)} tokens, {context_length} fit; shorten the"
                " answer or the system's message"
            )
        parts[first] = ([ids[0], *ids[1 + excess :]], [said[0], *said[1 + excess :]])
    return EncodedChat(
        [tokenizer.eot_id, *(token for ids, _ in parts for token in ids)],
        [False, *(flag for _, flags in parts for flag in flags)],
        truncated,
    )


def prompt_ids(
    tokenizer: BPETokenizer, messages: Sequence[Message], context_length: int | None = None
) -> list[int]:
    """A conversation that ends with the user -> ids up to where the assistant begins to speak."""
    if not messages or messages[-1].get("role") != "user":
        raise ValueError("a prompt ends with a message of the user")
    room = None if context_length is None else context_length - 1
    return [*encode_chat(tokenizer, messages, room).ids, tokenizer.special_tokens["<|assistant|>"]]
