"""Preferences as token ids: what the reward model and DPO learn from."""

from collections.abc import Sequence
from dataclasses import dataclass

from ch01_text import Tokenizer
from ch06_instruction.chat import EncodedChat, encode_chat
from ch06_instruction.chat_datasets import Preference


@dataclass(frozen=True)
class EncodedPair:
    """Two conversations as ids that share a prompt; `kind` says what is better about the first."""

    chosen: EncodedChat
    rejected: EncodedChat
    kind: str = "preference"


def encode_pairs(
    tokenizer: Tokenizer, preferences: Sequence[Preference], context_length: int | None = None
) -> list[EncodedPair]:
    """Preferences -> ids; ValueError if the two responses of one are equal."""
    pairs = []
    for one in preferences:
        if one.chosen == one.rejected:
            raise ValueError(f"the chosen and the rejected response are equal: {one.chosen[:60]!r}")
        chosen, rejected = (
            encode_chat(
                tokenizer, [*one.messages, {"role": "assistant", "content": text}], context_length
            )
            for text in (one.chosen, one.rejected)
        )
        pairs.append(EncodedPair(chosen, rejected, one.kind))
    return pairs
