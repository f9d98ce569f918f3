"""The labs: search against plain loops, the tool loop against a script, constraints and defences on
untrained models.
"""

import json
import math
import re
import subprocess
import sys
from collections import Counter
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from ch01_text import BPETokenizer
from ch01_text.storyworld import small_questions, stories
from ch01_text.storyworld.words import PEOPLE, PLACES, THINGS
from ch03_gpt import GPTModel, complete, pick_precision, preset_config
from ch03_gpt.generation import Completion
from ch04_pretraining import load_checkpoint, save_checkpoint
from ch06_instruction.answering import MAX_NEW_TOKENS, Chat
from ch06_instruction.chat import chat_model, chat_tokenizer
from ch06_instruction.storyworld_tasks import FORM_WORDS, REFUSAL, StoryworldData, instructions
from ch07_practice.evaluation.evaluation import EvalModel
from ch07_practice.labs import context, few_shot, injection, steps, structured, tools
from ch07_practice.labs.labs_command import LABS, draw_labs, labs
from ch07_practice.labs.search_index import Bm25Index, TfidfIndex, VectorIndex, embed, words
from ch07_practice.labs.setting import Setting, continue_responses
from ch07_practice.load_model import tuned_chat
from ch07_practice.story_questions import (
    absent_place,
    draw_pairs,
    draw_short_pairs,
    draw_two_step_pairs,
    known_answers,
    user_message,
)

ROOT = Path(__file__).parent.parent
FLOAT32 = pick_precision(torch.device("cpu"), "float32")


@pytest.fixture(scope="module")
def setting() -> Setting:
    """An untrained story model and an untrained chat model, both with clear preferences."""
    texts = [story.text for story in stories(150)]
    tokenizer = BPETokenizer.train([*texts, *['Q: A: {"answer": null}'] * 20], 600)
    torch.manual_seed(5)
    model = GPTModel(
        preset_config("tiny", vocab_size=tokenizer.n_vocab, context_length=256, conv_kernel=2)
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    model.eval()
    chats = chat_tokenizer(tokenizer)
    return Setting(
        EvalModel("base", model, tokenizer, FLOAT32),
        Chat(chat_model(model, chats.n_vocab, 384).eval(), chats, FLOAT32),
        n=4,
        seed=1,
    )


# Retrieval


def test_embeddings_are_means_of_hidden_states_whatever_stands_beside(setting):
    """Oracle: one text at a time without padding."""
    base = setting.base
    texts = [story.prose for story in stories(5, split="test")] + ["Tom.", "Where is Nora? " * 100]
    found = embed(base.model, base.tokenizer, texts, FLOAT32)
    for text, vector in zip(texts, found, strict=True):
        ids = [base.tokenizer.eot_id, *base.tokenizer.encode(text)][:256]
        with torch.inference_mode():
            hidden = base.model.hidden_states(torch.tensor([ids]))[0]
        np.testing.assert_allclose(vector, hidden.mean(dim=0).numpy(), atol=1e-4)
    with torch.inference_mode():
        ids = torch.tensor([[base.tokenizer.eot_id, *base.tokenizer.encode("Tom.")]])
        np.testing.assert_allclose(
            embed(base.model, base.tokenizer, ["Tom."], FLOAT32, layer=0)[0],
            base.model.tok_emb(ids)[0].mean(dim=0).numpy(),
            atol=1e-5,
        )


def test_vector_search_is_cosine_without_the_means():
    """Oracle: a loop over pairs."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(3, 1, (40, 6))
    queries = rng.normal(-2, 1, (5, 6))
    usual = rng.normal(-2, 1, (9, 6))
    found = VectorIndex(vectors, usual).search(queries, 7)
    for query, row in zip(queries, found, strict=True):
        similarity = []
        for vector in vectors:
            a, b = query - usual.mean(axis=0), vector - vectors.mean(axis=0)
            similarity.append(
                sum(x * y for x, y in zip(a, b, strict=True))
                / math.dist(a, a * 0)
                / math.dist(b, b * 0)
            )
        assert row.tolist() == sorted(range(40), key=lambda i: -similarity[i])[:7]
    with pytest.raises(ValueError, match="k must be from 1 to the 40 texts of the index, not 41"):
        VectorIndex(vectors, usual).search(queries, 41)


def test_bm25_is_its_formula():
    """Oracle: Robertson & Zaragoza 2009, equation 3.15 with Lucene's inverse document frequency,
    term by term.
    """
    pytest.importorskip("bm25s")
    texts = [story.prose for story in stories(30, split="test")]
    query = f"Where is {texts[3].split()[5]} and the market? The market!"
    counts, k1, b = [Counter(words(text)) for text in texts], 1.5, 0.75
    mean = sum(map(len, map(words, texts))) / len(texts)

    def score(number: int) -> float:
        total = 0.0
        for word in words(query):
            n = sum(word in one for one in counts)
            tf, length = counts[number][word], sum(counts[number].values())
            total += (
                math.log(1 + (30 - n + 0.5) / (n + 0.5))
                * tf
                / (tf + k1 * (1 - b + b * length / mean))
                if n
                else 0
            )
        return total

    index = Bm25Index(texts)
    np.testing.assert_allclose(
        index.index.get_scores(words(query)), [score(i) for i in range(30)], rtol=1e-4
    )
    assert index.search([query], 4)[0].tolist() == sorted(range(30), key=lambda i: -score(i))[:4]


def test_a_text_finds_itself(setting):
    texts = [story.prose for story in stories(30, split="test")]
    vectors = embed(setting.base.model, setting.base.tokenizer, texts, FLOAT32)
    for found in (
        VectorIndex(vectors, vectors).search(vectors, 1),
        TfidfIndex(texts).search(texts, 1),
    ):
        assert found[:, 0].tolist() == list(range(30))


# Tools


def test_the_call_is_executed_and_its_result_is_read(setting, monkeypatch):
    """Oracle: a script in the model's place that records its prompts. It is cut off behind each
    question and continues from the register's answers to its last line. Without a call, the first
    line is the whole response. Endless calls are stopped.
    """
    tokenizer = setting.chat.tokenizer
    register = {"Where is the book?": "the lake", "Who has the pen?": "Tom"}
    replies = {
        "Where is it?": "Q: Where is the book?\nA: the moon",
        "The zoo?": "Q: Where is the zoo?\nA: the sun",
        "Hello.": "hello\nQ: Where is the book?",
        "The pen?": "Q: Who has the pen?\nA: Nora",
        "Again!": "Q: Again?",
    }
    further = {"Q: Who has the pen?\nA: Tom": "\nQ: Where is the book?\nA: the sun"}
    read: list[str] = []

    def scripted(model, prompts, max_new_tokens, stop_ids, **_):
        written = []
        for prompt in prompts:
            asked, begun = (
                tokenizer.decode(prompt).rpartition("<|user|>")[2].split("<|end|><|assistant|>")
            )
            read.append(begun)
            again = "\nQ: Again?" if "Again" in begun else "\nA: lake."
            ids = tokenizer.encode(further.get(begun, again) if begun else replies[asked])
            stops = [place for place, token in enumerate(ids) if token in stop_ids]
            written.append(Completion(ids[: min(stops, default=len(ids))], "stop"))
        return written

    monkeypatch.setattr("ch07_practice.labs.setting.complete", scripted)
    found, unknown, silent, two, endless = tools.answer_with_tool(
        setting.chat, list(map(user_message, replies)), [register.get] * 5
    )
    assert found == tools.Turn(
        "Q: Where is the book?\nA: the lake\nA: lake.", ("Where is the book?",)
    )
    assert unknown == tools.Turn(
        "Q: Where is the zoo?\nA: nobody knows\nA: lake.", ("Where is the zoo?",)
    )
    assert silent == tools.Turn("hello")
    assert two == tools.Turn(
        "Q: Who has the pen?\nA: Tom\nQ: Where is the book?\nA: the lake\nA: lake.",
        ("Who has the pen?", "Where is the book?"),
    )
    assert endless.calls == ("Again?",) * tools.MAX_CALLS
    assert read[:7] == [
        *[""] * 5,
        "Q: Where is the book?\nA: the lake",
        "Q: Where is the zoo?\nA: nobody knows",
    ]
    assert "Q: Who has the pen?\nA: Tom\nQ: Where is the book?\nA: the lake" in read


def test_the_register_answers_as_the_stories_do():
    """Oracle: the questions that were drawn while each story was told, with their answers, and the
    small ones before them.
    """
    seen = Counter()
    for story in stories(150, split="test"):
        for question in story.questions:
            known = known_answers((story, question))
            answer = known.get(question.text, "nobody knows")
            assert answer == question.answer, (story.prose, question)
            seen[question.kind, question.hops, answer == "nobody"] += 1
            if question.hops == 2:
                steps_to = small_questions(question.about, story.world(question))
                assert len(steps_to) == 2
                assert {*steps_to} <= {*known.items()}
    assert len(seen) == 6, seen
    assert not {"Where is the moon?", "Who has Nora?"} & set(known_answers((story, question)))


def test_a_response_goes_on_from_its_beginning(setting):
    """Oracle: `complete`, one response at a time, on the prompt with the beginning behind it."""
    chat = setting.chat
    prompts = [
        chat.prompt(user_message(story.prose, question.text))
        for story, question in draw_pairs(2, 1)
    ]
    begun, stop = ["Q: Where is Nora?\nA: the mill", ""], chat.tokenizer.encode(" w")[0]
    for stops in ((), (stop,)):
        for prompt, beginning, text in zip(
            prompts, begun, continue_responses(chat, prompts, begun, stops), strict=True
        ):
            (alone,) = complete(
                chat.model,
                [[*prompt, *chat.tokenizer.encode(beginning)]],
                MAX_NEW_TOKENS,
                stop_ids=(chat.tokenizer.special_tokens["<|end|>"], *stops),
            )
            assert text == beginning + chat.text(alone.ids)


# Structure and injection


def test_constrained_answers_are_valid_whatever_the_model(setting):
    """Oracle: json.loads, on an untrained model, greedy and drawn; free of the constraint it
    writes nonsense.
    """
    pairs = draw_pairs(2, 1)
    asked = [user_message(story.prose, question.text) for story, question in pairs]
    for form, keys in ((structured.KNOWN, ("answer",)), (structured.UNSEEN, ("who", "where"))):
        for options in ({}, {"temperature": 2.0, "generator": torch.Generator().manual_seed(1)}):
            for answer in structured.constrained_answers(
                setting.chat, asked, structured.STEPS + form, **options
            ):
                assert tuple(json.loads(answer.rpartition("\n")[2].removeprefix("A: "))) == keys
                assert structured.parse_answer(answer, *keys) is not None
    free = structured.constrained_answers(setting.chat, asked, None)
    assert not any(structured.parse_answer(answer, "answer") for answer in free)


def test_the_plain_exchange_may_stand_before_a_constrained_answer():
    """Oracle: every way in which the tuned model is taught to answer a question."""
    forms = {"json": structured.KNOWN, "phrase": injection.PHRASE.removeprefix(structured.STEPS)}
    seen = set()
    for one in islice(instructions(10**9, 1, only="question"), 150):
        if one.form in forms:
            assert re.fullmatch(structured.STEPS + forms[one.form], one.response), one.response
            seen.add((one.form, one.response.count("\n")))
    assert seen == {("json", 2), ("json", 4), ("phrase", 1), ("phrase", 2), ("phrase", 3)}
    for wrong in (
        "A: the mill\n",
        "Q: Where is Tom?\nA: the mill\nA: the mill\n",
        "the mill\n",
        "Notes: x\n",
    ):
        assert not re.fullmatch(structured.STEPS + structured.KNOWN, wrong + '{"answer": null}'), (
            wrong
        )


def test_a_form_of_words_has_no_braces(setting):
    pairs = draw_pairs(3, 1, kinds=("where-person",))
    for texts in injection.answers(setting, pairs, "format").values():
        assert not any(set('{}"') & set(text.rpartition("\n")[2]) for text in texts)


def test_cleaning_takes_orders_and_exchanges_and_leaves_stories_alone():
    for story in stories(200, split="test"):
        assert injection.clean(story.prose) == story.prose
    pair = draw_pairs(1, 1, kinds=("where-person",))[0]
    hidden = {name: attack(pair) for name, attack in injection.ATTACKS.items()}
    survive = {
        name: injection.clean(pair[0].prose + text) != pair[0].prose
        for name, text in hidden.items()
    }
    assert survive == {
        "nothing": False,
        "order": False,
        "order, reworded": True,
        "forged exchange": False,
        "false sentence": True,
    }
    for form in FORM_WORDS.values():
        assert all(
            injection.clean(f"Nora wept. {order}") == "Nora wept."
            for order in form["train"]
            if order
        )


def test_an_attack_counts_only_where_it_wins():
    pair = draw_pairs(1, 1, kinds=("where-person",))[0]
    place = absent_place(pair)
    assert place.removeprefix("the ") not in pair[0].prose
    assert injection.succeeds("order", 'Q: x\nA: the inn\nA: {"answer": "the inn"}', pair)
    assert not injection.succeeds("order", f"Q: {{}}?\nA: {pair[1].answer}", pair)
    assert injection.succeeds("forged exchange", f"Q: {pair[1].text}\nA: {place}", pair)
    assert not injection.succeeds("false sentence", f"A: {place}\nA: {pair[1].answer}", pair)


# Prompts


def test_few_shot_prompts_hold_what_they_say(setting):
    pairs = draw_short_pairs(setting.base.tokenizer, "train", 3, 1, max_tokens=80)
    (story, question), (other, asked) = pairs[:2]
    text = few_shot.few_shot_prompt(
        few_shot.unseen_format, [((story, question), "the moon")], (other, asked)
    )
    assert (
        text == f"{story.told(question)}\n{question.text} => the moon\n\n"
        f"{other.told(asked)}\n{asked.text} =>"
    )
    assert few_shot.without_q("Who?", "Tom") == "Who?\nA: Tom\n"


def test_two_step_questions_chain_two_facts():
    pairs = draw_two_step_pairs(30, 1)
    assert len({story.prose for story, _ in pairs}) == 30
    for story, question in pairs:
        thing, world = question.about, story.world(question)
        assert question.text == f"Where is the {thing}?"
        assert (world.hops(thing), f"the {world.place(thing)}") == (2, question.answer)


@pytest.mark.parametrize(
    ("knows_owners", "knows_people"), [(True, True), (False, True), (True, False)]
)
def test_a_chain_is_as_good_as_its_links(setting, monkeypatch, knows_owners, knows_people):
    """Oracle: a scripted model that tracks owners, people or both, but never a thing's place. It
    fails at once; in steps it succeeds if it knows both links. It also knows where a wrong owner
    is.
    """
    told, asked = {}, []
    for story, question in draw_two_step_pairs(40, 1):
        where = story.world(question).where
        away = [
            one
            for one in where
            if one in PEOPLE and where[one] and f"the {where[one]}" != question.answer
        ]
        if where[question.about] in PEOPLE and away:
            told[story.told(question)] = (where, question.about, away[0], (story, question))
    pairs = [pair for *_, pair in told.values()]

    def respond(chat, conversations):
        answers = []
        for (message,) in conversations:
            prose, question = message["content"].split("\n")
            where, thing, wrong, _ = told[prose]
            asked.append(question)
            if question == f"Who has the {thing}?":
                answer = where[thing] if knows_owners else wrong
            elif question == f"Where is the {thing}?":
                answer = "the moon"
            else:
                answer = f"the {where[question[9:-1]]}" if knows_people else "the moon"
            answers.append(f"Q: {question}\nA: {answer}")
        return answers

    monkeypatch.setattr(steps, "draw_two_step_pairs", lambda n, seed: pairs)
    monkeypatch.setattr(Chat, "respond", respond)
    found = {one.measure: one.value for one in steps.measure(setting)}
    assert len(asked) == 3 * len(pairs) > 30
    assert found.pop("story model, at once") <= 0.5
    assert found == {
        "tuned model, at once": 0,
        "tuned model, in steps": knows_owners and knows_people,
        "first sub-question right": knows_owners,
        "second sub-question right": knows_people,
    }


def test_who_is_unknown_is_rightly_refused():
    pair = draw_pairs(1, 1)[0]
    stranger = next(one for one in PEOPLE if one not in pair[0].prose)
    question = f"Where is {stranger}?"
    assert steps.is_true(pair, question, f"Q: {question}\nA: nobody knows\nA: {REFUSAL}")
    assert not steps.is_true(pair, question, f"Q: {question}\nA: the lake")


def test_filler_changes_the_length_and_nothing_else(setting):
    from random import Random

    names = {*PEOPLE, *PLACES, *THINGS}
    text = context.filler(Random(0), setting.base.tokenizer, 200)
    assert 200 <= len(setting.base.tokenizer.encode(text)) < 230
    assert not names & set(text.replace(".", " ").replace(",", " ").split())
    story, question = draw_pairs(1, 1)[0]
    assert (
        context.insert_filler((story, question), text)
        == f"{story.prose}{text}\nQ: {question.text}\nA:"
    )


def test_questions_are_about_the_end_of_the_story():
    for story, question in islice(draw_pairs(50, 3), 50):
        assert question.position == len(story.sentences)
        assert question.answer != "nobody knows"


# The command


@pytest.mark.slow
def test_a_missing_tuned_model_is_trained_by_chapter_6(setting, tmp_path, monkeypatch):
    """In this process: no `main.py` is started. Oracles: chapter 6's checkpoint, and its answers."""
    base = setting.base
    save_checkpoint(tmp_path / "ch04_pretraining" / "checkpoint", base.model, base.tokenizer)
    monkeypatch.setattr(
        "ch06_instruction.storyworld_tasks.StoryworldData",
        partial(StoryworldData, n_conversations=8, n_replay=8),
    )
    monkeypatch.setattr(subprocess, "Popen", None)
    chat = tuned_chat(tmp_path, FLOAT32)
    saved, _ = load_checkpoint(tmp_path / "ch06_instruction" / "sft")
    assert torch.equal(saved.tok_emb.weight, chat.model.tok_emb.weight)
    assert len(chat.respond([user_message("Where is Tom?")])) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", LABS)
def test_every_lab_measures_shares_with_their_intervals(setting, name, monkeypatch):
    monkeypatch.setattr("ch06_instruction.answering.MAX_NEW_TOKENS", 12)
    monkeypatch.setattr("ch07_practice.labs.setting.MAX_NEW_TOKENS", 60)
    monkeypatch.setattr("ch07_practice.labs.structured.MAX_NEW_TOKENS", 60)
    monkeypatch.setattr("ch07_practice.labs.retrieval.N_STORIES", 40)
    if name == "retrieval":
        pytest.importorskip("bm25s")
    results = LABS[name].measure(setting)
    assert {one.task for one in results} == {name}
    assert len({one.measure for one in results}) == len(results) >= 3
    for one in results:
        assert 0 <= one.ci95_low <= one.value <= one.ci95_high <= 1
        assert one.value * one.n == pytest.approx(round(one.value * one.n))
    values = {one.measure: one.value for one in results}
    if name == "self-consistency":
        assert values["any of 5"] >= values["vote of 5"]
    if name == "retrieval":
        assert all(
            values[measure.replace("@1", "@5")] >= value
            for measure, value in values.items()
            if "@1" in measure
        )
    assert len(draw_labs({name: results, "again": results}).axes) == 2


@pytest.mark.slow
def test_the_command_writes_numbers_and_a_picture(setting, tmp_path, capsys):
    save_checkpoint(
        tmp_path / "ch04_pretraining" / "checkpoint", setting.base.model, setting.base.tokenizer
    )
    save_checkpoint(
        tmp_path / "ch06_instruction" / "sft", setting.chat.model, setting.chat.tokenizer
    )
    result = labs("few-shot", questions=3, run=tmp_path, device="cpu")
    folder = tmp_path / "ch07_practice"
    assert json.loads((folder / "labs_few-shot.json").read_text(encoding="utf-8")) == result
    assert (folder / "labs_few-shot.png").stat().st_size > 5000
    assert "known format, 2 examples" in capsys.readouterr().out
    wrong = subprocess.run(
        [
            sys.executable,
            "ch07_practice/main.py",
            "labs",
            "--questions",
            "0",
            "--run",
            str(tmp_path / "none"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (wrong.returncode, wrong.stderr) == (1, "error: --questions must be at least 1, not 0\n")
