"""A chat model's responses: greedy for evaluation, sampled for best-of-n and for alignment."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm

from ch01_text import Tokenizer
from ch03_gpt import GPTModel, Precision, complete
from ch06_instruction.chat import END, Prompt, prompt_ids

MAX_NEW_TOKENS = 80


@dataclass(frozen=True)
class Chat:
    """A model that answers messages, with its tokenizer and the precision it computes in."""

    model: GPTModel
    tokenizer: Tokenizer
    precision: Precision

    def prompt(self, messages: Prompt) -> list[int]:
        """A prompt as ids, cut at the beginning so that the response fits the context."""
        return prompt_ids(
            self.tokenizer, messages, self.model.config.context_length - MAX_NEW_TOKENS
        )

    def sample(
        self,
        prompts: Sequence[list[int]],
        num_generations: int = 1,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> list[list[int]]:
        """Ids of prompts -> ids of `num_generations` responses to each, those of a prompt adjacent.

        A response that ended has <|end|> as its last id. Temperature 0 is greedy decoding.
        """
        end = self.tokenizer.special_tokens[END]
        self.model.eval()
        with torch.inference_mode(), self.precision.autocast():
            completions = complete(
                self.model,
                prompts,
                MAX_NEW_TOKENS,
                samples=num_generations,
                stop_ids=(end,),
                temperature=temperature,
                generator=generator,
            )
        return [one.ids + [end] * (one.finish_reason == "stop") for one in completions]

    def text(self, ids: Sequence[int]) -> str:
        """Ids of a response -> its text, without <|end|>."""
        end = self.tokenizer.special_tokens[END]
        return self.tokenizer.decode([token for token in ids if token != end])

    def respond(
        self,
        prompts: Sequence[Prompt],
        num_generations: int = 1,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
        *,
        batch_size: int = 128,
        description: str = "answering",
    ) -> list[str]:
        """Prompts -> texts of `num_generations` responses to each, those of a prompt adjacent.

        Prompts of similar length share a batch; the responses come in the order of the prompts.
        """
        ids = [self.prompt(messages) for messages in prompts]
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        prompts_per_batch = max(1, batch_size // num_generations)
        responses: list[list[str]] = [[]] * len(ids)
        batches = range(0, len(order), prompts_per_batch)
        for first in tqdm(batches, description, leave=False, disable=None):
            rows = order[first : first + prompts_per_batch]
            sampled = self.sample(
                [ids[row] for row in rows], num_generations, temperature, generator
            )
            for i, row in enumerate(rows):
                group = sampled[i * num_generations : (i + 1) * num_generations]
                responses[row] = [self.text(response) for response in group]
        return [text for group in responses for text in group]
