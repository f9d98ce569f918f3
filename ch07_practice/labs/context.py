"""Context length: what happens to answers as the text grows and finally no longer fits?

The same short stories get more and more sentences about the weather between story and question. A
prompt that is too long loses its beginning, and with it the facts. Rotary positions also let the
model attend beyond the lengths that it was trained on: it does not fail, it gets worse (Press et
al. 2022 measure the same).
"""

from random import Random

from ch03_gpt import document_start
from ch06_instruction.chat import chat_model
from ch07_practice.evaluation.evaluation import EvalResult, accuracy_result
from ch07_practice.evaluation.likelihood import score_rows
from ch07_practice.labs.setting import Setting
from ch07_practice.story_questions import Pair, draw_pairs, weather_sentences

FILLER_TOKENS = (0, 64, 128, 256, 384)  # between story and question


def filler(rng: Random, tokenizer, n: int) -> str:
    """Irrelevant sentences of about `n` tokens in all; empty for 0."""
    sentences, text = weather_sentences(), ""
    while len(tokenizer.encode(text)) < n:
        text += f" {rng.choice(sentences)}"
    return text


def insert_filler(pair: Pair, text: str) -> str:
    """The prompt with `text` between story and question."""
    story, question = pair
    return story.prompt(question).replace(story.prose, story.prose + text, 1)


def measure(setting: Setting) -> list[EvalResult]:
    """Greedy answers of the story model by length: truncated to its context, and beyond it."""
    base, rng = setting.base, Random(setting.seed)
    context, pairs = base.model.config.context_length, draw_pairs(2 * setting.n, setting.seed + 6)
    results = []
    for n in FILLER_TOKENS:
        rows = []
        for story, question in pairs:
            text = insert_filler((story, question), filler(rng, base.tokenizer, n))
            prompt = document_start(base.tokenizer, text)
            rows.append((prompt, base.tokenizer.encode(f" {question.answer}\n")))
        longest = max(len(prompt) + len(answer) for prompt, answer in rows)
        length = f"{sum(len(prompt) for prompt, _ in rows) / len(rows):.0f} tokens"
        truncated = [greedy for _, greedy in score_rows(base.model, rows, base.precision)]
        results.append(accuracy_result("context", f"{length}, truncated to {context}", truncated))
        if base.model.config.position == "rope" and longest > context:
            longer = chat_model(base.model, base.model.config.vocab_size, longest)
            beyond = [greedy for _, greedy in score_rows(longer, rows, base.precision)]
            results.append(accuracy_result("context", f"{length}, beyond {context}", beyond))
    return results
