"""The limit of the context: what happens to answers as the text grows and at last does not fit?

The same short stories are asked about with more and more words about the weather between story and
question. What does not fit is cut at the beginning, and the facts with it. With rotary positions
the model can also be made to read on beyond the positions that it was trained on: it does not fail,
it gets worse (Press et al. 2022 measure the same).
"""

from random import Random

from ch01_text.storyworld.phrases import PHRASES
from ch03_gpt import document_start
from ch06_instruction.chat import chat_model
from ch07_practice.harness import Finding, share
from ch07_practice.labs.setting import Pair, Setting, draw_pairs
from ch07_practice.likelihood import score_rows

FILLERS = (0, 64, 128, 256, 384)  # tokens between story and question


def filler(rng: Random, tokenizer, n: int) -> str:
    """Sentences that change nothing, of about `n` tokens in all; empty for 0."""
    text = ""
    while len(tokenizer.encode(text)) < n:
        text += f" {rng.choice(PHRASES['weather'])}"
    return text


def stretched(pair: Pair, text: str) -> str:
    """The prompt with the text between story and question."""
    story, question = pair
    return story.prompt(question).replace(story.prose, story.prose + text, 1)


def measure(setting: Setting) -> list[Finding]:
    """Greedy answers of the story model by length: cut to its context, and read beyond it."""
    base, rng = setting.base, Random(setting.seed)
    context, pairs = base.model.config.context_length, draw_pairs(2 * setting.n, setting.seed + 6)
    findings = []
    for n in FILLERS:
        rows = []
        for story, question in pairs:
            prompt = document_start(
                base.tokenizer, stretched((story, question), filler(rng, base.tokenizer, n))
            )
            rows.append((prompt, base.tokenizer.encode(f" {question.answer}\n")))
        longest = max(len(prompt) + len(answer) for prompt, answer in rows)
        length = f"{sum(len(prompt) for prompt, _ in rows) / len(rows):.0f} tokens"
        cut = score_rows(base.model, rows, base.precision)
        findings.append(
            share("context", f"{length}, cut to {context}", [greedy for _, greedy in cut])
        )
        if base.model.config.position == "rope" and longest > context:
            longer = chat_model(base.model, base.model.config.vocab_size, longest)
            read = score_rows(longer, rows, base.precision)
            findings.append(
                share("context", f"{length}, read beyond {context}", [greedy for _, greedy in read])
            )
    return findings
