"""Questions that take two steps: where is the ring? Who has it, and where is she? A classifier asks
itself the first, and then, behind its own answer, the second (self-ask; Press et al. 2022).

In training the second question stands behind the true first answer, in use behind the classifier's
own: where that is wrong, the second answer is right by luck only.
"""

import re

import numpy as np

from ch01_text.storyworld import question_lines, where_is
from ch01_text.storyworld.words import PEOPLE
from ch03_gpt import Precision
from ch05_classification.classifier import GPTClassifier
from ch05_classification.encoding import Encoded, encode_examples
from ch05_classification.examples import Examples
from ch05_classification.fine_tuning import predict_logits


def ask_for_the_place(text: str, holder: str) -> str:
    """A text that ends in "Q: Who has the ring?", "A:" -> the same, answered, and the next question
    behind it.

    >>> ask_for_the_place("Q: Who has the ring?\\nA:", "Tom")
    'Q: Who has the ring?\\nA: Tom\\nQ: Where is Tom?\\nA: the'
    >>> ask_for_the_place("Q: Who has the ring?\\nA:", "nobody")
    'Q: Who has the ring?\\nA: nobody\\nQ: Where is the ring?\\nA: the'
    """
    thing = re.findall(r"Who has the (\w+)\?", text)[-1:]
    if not thing:
        raise ValueError(
            f"the text must end in a question like 'Q: Who has the ring?', not in {text[-20:]!r}"
        )
    follow_up = where_is(holder if holder in PEOPLE else thing[0])
    return f"{text} {holder}\n{question_lines(follow_up)} the"


FOLLOW_UPS = {"place": ask_for_the_place}  # by task: what to ask after the first answer


def both_steps(task: str, examples: Examples, classes: tuple[str, ...]) -> Examples:
    """The rows to learn from: as they are, or, of a task in two steps, first questions and then
    second ones.
    """
    if task not in FOLLOW_UPS:
        return examples
    found = [classes[number] for number in examples.first]
    second = list(map(FOLLOW_UPS[task], examples.texts, found))
    return Examples(examples.texts + second, np.concatenate((examples.first, examples.labels)))


def predict(
    task: str,
    classifier: GPTClassifier,
    tokenizer,
    texts: list[str],
    classes: tuple[str, ...],
    keep: str,
    precision: Precision,
) -> tuple[np.ndarray, int]:
    """((n, K) float32 logits of the last step, how many texts did not fit). ValueError where a
    text is empty.
    """

    def ask(texts: list[str]) -> tuple[np.ndarray, Encoded]:
        nothing = np.zeros(len(texts), dtype=np.int64)
        encoded = encode_examples(
            tokenizer, Examples(texts, nothing), classifier.model.config.context_length, keep
        )
        return predict_logits(classifier, encoded, precision), encoded

    logits, encoded = ask(texts)
    if task in FOLLOW_UPS:
        found = [classes[number] for number in logits.argmax(axis=1)]
        logits, encoded = ask(list(map(FOLLOW_UPS[task], texts, found)))
    return logits, encoded.truncated
