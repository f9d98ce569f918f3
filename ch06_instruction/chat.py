"""The chat template: conversations as tokens, with a mask of what the model learns to say.

    <|endoftext|><|user|>a story and a question<|end|><|assistant|>the answer<|end|>

Each role is a special token, and so is the end of a message. Message contents are encoded without
special tokens, so no user can type one. The roles are those of today's chat models; the book's
Alpaca prompt (`chat_datasets.alpaca_prompt`) is an ordinary user message here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ch01_text import BPETokenizer, Tokenizer
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
Conversation = Sequence[Message]
Prompt = Sequence[Message]  # a conversation that ends with the user


def check_conversation(messages: Conversation) -> None:
    """Raise ValueError unless the messages are an optional system message, then user and assistant
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
            raise ValueError(f"message {number} is a system message; only the first one may be")
        if role != "system" and role not in expected:
            raise ValueError(
                f"message {number} is from the {role}, but it is the {expected[0]}'s turn"
            )
        if not isinstance(content, str) or not content.strip():
            raise ValueError(f"message {number}, from the {role}, is empty")
        # after a system message, as after an answer, it is the user's turn
        expected = ("user",) if role in ("system", "assistant") else ("assistant",)
    if messages[-1]["role"] == "system":
        raise ValueError("the conversation has only a system message; add a user message")


def chat_tokenizer(tokenizer: BPETokenizer) -> BPETokenizer:
    """Add the special tokens of the template to `tokenizer`, unless it has them already.

    ValueError unless it is a byte-pair tokenizer.
    """
    if not isinstance(tokenizer, BPETokenizer):
        raise ValueError(
            "chat needs a byte-pair tokenizer, which has special tokens, not"
            f" {type(tokenizer).__name__}"
        )
    new = [token for token in SPECIALS if token not in tokenizer.special_tokens]
    if not new and tokenizer.chat_template == TEMPLATE:
        return tokenizer
    # ids from n_vocab on: existing tokens keep theirs, and with them their embeddings
    specials = tokenizer.special_tokens | {
        token: tokenizer.n_vocab + i for i, token in enumerate(new)
    }
    return replace(tokenizer, special_tokens=specials, eos_token=END, chat_template=TEMPLATE)


@torch.no_grad()
def chat_model(model: GPTModel, n_vocab: int, context_length: int | None = None) -> GPTModel:
    """A copy of `model` with `n_vocab` token embeddings and, if given, another context length.

    New embeddings start as the mean of the old ones (Hewitt 2021). ValueError if the context length
    changes and the model's positions are not rotary.
    """
    if (
        context_length
        and model.config.position != "rope"
        and context_length != model.config.context_length
    ):
        raise ValueError("only a model with rotary positions can get a longer context")
    config = replace(
        model.config,
        vocab_size=max(n_vocab, model.config.vocab_size),
        context_length=context_length or model.config.context_length,
    )
    other = GPTModel(config)
    state = model.state_dict()
    # With tied embeddings both names are one parameter; both get the same extra rows.
    for name in ("tok_emb.weight", "out_head.weight"):
        old = state[name]
        # A random row could have the largest logit, and the model would write a token that it has
        # never seen. The mean's logit is the mean of the logits, never above their maximum.
        extra = old.mean(dim=0).expand(config.vocab_size - len(old), -1)
        state[name] = torch.cat((old, extra))
    other.load_state_dict(state)
    return other.to(model.device)


@dataclass(frozen=True)
class EncodedChat:
    """A conversation as token ids."""

    ids: list[int]
    assistant_mask: list[bool]  # True where the token is learned: the assistant's words and <|end|>
    truncated: bool = False  # whether its beginning was cut to fit the context


def encode_message(tokenizer: Tokenizer, message: Message) -> tuple[list[int], list[bool]]:
    """One message -> its ids and their assistant mask."""
    special = tokenizer.special_tokens
    content = tokenizer.encode(message["content"])  # text like <|end|> stays text
    learned = message["role"] == "assistant"
    ids = [special[f"<|{message['role']}|>"], *content, special[END]]
    # the role token is given, not predicted, even the assistant's
    return ids, [False, *[learned] * (len(content) + 1)]


def encode_chat(
    tokenizer: Tokenizer, messages: Conversation, context_length: int | None = None
) -> EncodedChat:
    """Encode a conversation into at most `context_length` + 1 ids (the last one is only predicted).

    A longer conversation loses its oldest exchanges first, never its system message; if the last
    exchange alone is too long, its user message loses its beginning. ValueError if even that leaves
    no room for the answer.
    """
    check_conversation(messages)
    parts = [encode_message(tokenizer, message) for message in messages]
    # <|endoftext|> takes one place, and the last token, which is only predicted, needs none
    room = float("inf") if context_length is None else context_length
    first = int(messages[0]["role"] == "system")  # the oldest part that may go
    total = sum(len(ids) for ids, _ in parts)
    truncated = total > room
    while total > room and len(parts) - first > 2:  # the last exchange stays
        # a user message together with its answer, so that the roles go on alternating
        total -= sum(len(ids) for ids, _ in parts[first : first + 2])
        del parts[first : first + 2]
    if total > room:
        ids, mask = parts[first]
        excess = int(total - room)  # tokens to drop
        if len(ids) - 2 <= excess:  # its content, without role and <|end|>
            raise ValueError(
                f"the last exchange has {int(total)} tokens, {context_length} fit; shorten the"
                " answer or the system message"
            )
        # the role token stays, and the end of the message, where the question usually is
        parts[first] = ([ids[0], *ids[1 + excess :]], [mask[0], *mask[1 + excess :]])
    return EncodedChat(
        [tokenizer.eot_id, *(token for ids, _ in parts for token in ids)],
        [False, *(flag for _, mask in parts for flag in mask)],
        truncated,
    )


def prompt_ids(
    tokenizer: Tokenizer, messages: Prompt, context_length: int | None = None
) -> list[int]:
    """A conversation that ends with the user -> ids up to and including <|assistant|>."""
    if not messages or messages[-1].get("role") != "user":
        raise ValueError("a prompt ends with a user message")
    # one place for <|assistant|>
    room = None if context_length is None else context_length - 1
    return [*encode_chat(tokenizer, messages, room).ids, tokenizer.special_tokens["<|assistant|>"]]


def with_response(prompt: list[int], response: list[int]) -> EncodedChat:
    """Ids of a prompt and of one response to it; only the response is learned."""
    return EncodedChat(prompt + response, [False] * len(prompt) + [True] * len(response))


def encode_response(
    tokenizer: Tokenizer, messages: Prompt, response: str, context_length: int | None = None
) -> EncodedChat:
    """Encode a prompt and one response to it, which may be empty, as `encode_chat` would.

    Earlier messages of the assistant are part of the prompt here: only the response is learned.
    """
    ids = [*tokenizer.encode(response), tokenizer.special_tokens[END]]
    # the prompt is cut, never the response
    room = None if context_length is None else context_length - len(ids)
    return with_response(prompt_ids(tokenizer, messages, room), ids)
