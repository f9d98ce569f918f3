"""Cheap ways to answer without tracking the state: the baselines beside which a model's accuracy
counts.

Five need only the text so far, two are fitted: the most frequent answer of each kind, and logistic
regression on bags of words. The question sampler keeps all of them low on the main kinds; "same
sentence" is high on where-person by nature, since it nearly is the right rule there.
"""

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from ch01_text.storyworld.narration import Heard
from ch01_text.storyworld.questions import ANSWER_TYPE, MAIN_KINDS, Question
from ch01_text.storyworld.story import Story
from ch01_text.storyworld.words import APART, KIND, PLACES, the

Pair = tuple[Story, Question]

TEXT_SHORTCUTS = ("last mentioned", "last mover", "first mention", "same sentence", "last answer")


def listen(story: Story, question: Question) -> Heard:
    """Collect the names in the prose told before `question`."""
    heard = Heard()
    for sentence in story.told(question):
        heard.hear(
            [word for word in re.findall(r"\w+", sentence) if word in APART or word in PLACES]
        )
    return heard


def newest_move(story: Story, question: Question) -> tuple[str, str]:
    """Return who went where in the last told event that names a destination; ("", "") before the
    first.
    """
    told = len(story.told(question))
    for event in reversed(story.events):
        if event.verb == "move" and event.sentence < told:
            return event.actor, event.place
    return "", ""


def shortcut_answers(story: Story, question: Question) -> dict[str, str]:
    """Return the answer of each text shortcut to `question`, by name; "" where it has none.

    "last mentioned": the newest place (for where-kinds), person (who) or thing (what) in the prose;
    "last mover": who moved last, or where to; "first mention" and "same sentence": the place,
    person or thing at the first and the newest sentence that names whom or what the question is
    about; "last answer": the answer given before to the same question. Other kinds have "last
    answer" only.
    """
    asked = [one for one in story.questions if one.position < question.position]
    earlier = [one.answer for one in asked if one.text == question.text]
    answers = dict.fromkeys(TEXT_SHORTCUTS, "") | {"last answer": earlier[-1] if earlier else ""}
    if question.kind not in ANSWER_TYPE:
        return answers
    wanted, about = ANSWER_TYPE[question.kind], question.about[0]
    heard, unheard = listen(story, question), ("", "", "")
    found = {
        "last mentioned": heard.last[wanted],
        "last mover": (*newest_move(story, question), "")[wanted],
        "first mention": heard.first.get(about, unheard)[wanted],
        "same sentence": heard.near.get(about, unheard)[wanted],
    }
    nouns = {name: the(word) for name, word in found.items() if word in PLACES or word in KIND}
    return answers | found | nouns


def fit_majority(questions: Iterable[Question]) -> dict[str, str]:
    """Return the most frequent answer of each kind."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for question in questions:
        counts[question.kind][question.answer] += 1
    return {kind: answers.most_common(1)[0][0] for kind, answers in counts.items()}


def fit_bag_of_words(pairs: Iterable[Pair]) -> Callable[[Sequence[Pair]], list[str]]:
    """Fit logistic regression on word counts of the prose so far and of the question, a model a
    kind.

    Returns a function from pairs to answers. Kinds not in `pairs` are answered "".
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from threadpoolctl import threadpool_limits

    def words(pair: Pair) -> list[str]:
        story, question = pair
        told = re.findall(r"\w+", story.prose[: question.position])
        return told + ["?" + word for word in re.findall(r"\w+", question.text)]

    def by_kind(pairs: Iterable[Pair]) -> dict[str, list[Pair]]:
        kinds: dict[str, list[Pair]] = defaultdict(list)
        for pair in pairs:
            kinds[pair[1].kind].append(pair)
        return kinds

    models = {}
    for kind, examples in by_kind(pairs).items():
        answers = [question.answer for _, question in examples]
        if len(set(answers)) > 1:
            regression = LogisticRegression(C=0.1, max_iter=500, tol=1e-2)
            model = make_pipeline(CountVectorizer(analyzer=words), regression)
            # so small a problem only gets slower by threads
            with threadpool_limits(1), warnings.catch_warnings():
                # reasons hardly repeat
                warnings.filterwarnings("ignore", message="The number of unique classes")
                models[kind] = model.fit(examples, answers)

    def answer(pairs: Sequence[Pair]) -> list[str]:
        found = {}
        for kind, examples in by_kind(pairs).items():
            if kind in models:
                found |= zip(
                    map(id, examples), map(str, models[kind].predict(examples)), strict=True
                )
        return [found.get(id(pair), "") for pair in pairs]

    return answer


def shortcut_table(
    train: Sequence[Pair], test: Sequence[Pair], kinds: Sequence[str] = MAIN_KINDS
) -> dict[str, dict[str, float]]:
    """Measure all shortcuts: exact match on `test` by shortcut and kind, and "all" over `kinds`.

    "last answer" counts only the questions that were asked before in the same story.
    """
    train = [pair for pair in train if pair[1].kind in kinds]
    test = [pair for pair in test if pair[1].kind in kinds]
    majority, bag = fit_majority(question for _, question in train), fit_bag_of_words(train)(test)
    hits: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for (story, question), words in zip(test, bag, strict=True):
        answers = shortcut_answers(story, question)
        answers |= {"majority": majority.get(question.kind, ""), "bag of words": words}
        for name, answer in answers.items():
            if name != "last answer" or answer:
                for key in (question.kind, "all"):
                    hits[name][key].append(answer == question.answer)
    return {
        name: {
            kind: sum(hits[name][kind]) / max(1, len(hits[name][kind])) for kind in (*kinds, "all")
        }
        for name in ("majority", "bag of words", *TEXT_SHORTCUTS)
    }
