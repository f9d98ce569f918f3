"""Let a model answer: greedily for the evaluation, drawn for best-of-n and for reinforcement
learning.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm

from ch01_text import BPETokenizer
from ch03_gpt import GPTModel, Precision, complete
from ch06_instruction.chat import END, EncodedChat, Message, prompt_ids

MAX_NEW_TOKENS = 80


@dataclass(frozen=True)
class Chat:
    """A model that answers messages, with its tokenizer and the precision it computes in."""

    model: GPTModel
    tokenizer: BPETokenizer
    precision: Precision

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """What the model reads; beginnings of long messages are cut, so that the answer has
        room.
        """
        return prompt_ids(
            self.tokenizer, messages, self.model.config.context_length - MAX_NEW_TOKENS
        )

    def draw(
        self,
        prompts: Sequence[list[int]],
        samples: int = 1,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> list[list[int]]:
        """Prompts -> the ids of `samples` answers to each, side by side; where an answer ended,
        <|end|> is the last.
        """
        end = self.tokenizer.special_tokens[END]
        self.model.eval()
        with torch.inference_mode(), self.precision.autocast():
            drawn = complete(
                self.model,
                prompts,
                MAX_NEW_TOKENS,
                samples=samples,
                stop_ids=(end,),
                temperature=temperature,
                generator=generator,
            )
        return [one.ids + [end] * (one.finish_reason == "stop") for one in drawn]

    def text(self, ids: Sequence[int]) -> str:
        """An answer without its <|end|>."""
        end = self.tokenizer.special_tokens[END]
        return self.tokenizer.decode([token for token in ids if token != end])

    def respond(
        self,
        conversations: Sequence[Sequence[Message]],
        samples: int = 1,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
        batch_size: int = 128,
        description: str = "answering",
    ) -> list[str]:
        """Conversations that end with the user -> `samples` answers to each, side by side."""
        prompts = [self.prompt(messages) for messages in conversations]
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        at_once = max(1, batch_size // samples)
        answers: list[list[str]] = [[]] * len(prompts)
        for first in tqdm(range(0, len(order), at_once), description, leave=False, disable=None):
            rows = order[first : first + at_once]
            drawn = self.draw([prompts[row] for row in rows], samples, temperature, generator)
            for number, row in enumerate(rows):
                answers[row] = [
                    self.text(ids) for ids in drawn[number * samples : (number + 1) * samples]
                ]
        return [answer for several in answers for answer in several]


def answered(prompt: list[int], answer: list[int]) -> EncodedChat:
    """A prompt with a drawn answer, which is what is learned."""
    return EncodedChat(prompt + answer, [False] * len(prompt) + [True] * len(answer))
