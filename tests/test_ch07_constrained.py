"""Regular expressions against Python's re; constrained texts are valid whatever the model, the
seed and the limit.
"""

import json
import re
import string
from dataclasses import replace
from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ch01_text import BPETokenizer, CharTokenizer, WordTokenizer
from ch03_gpt import GPTConfig, GPTModel, complete
from ch07_practice.decoding.constrained import (
    Pattern,
    RegexConstraint,
    Vocabulary,
    choice_expression,
    json_expression,
)
from ch07_practice.decoding.regex_derivatives import NOTHING, after, nullable, parse

BPE = BPETokenizer.train(
    'the cat sat on the mat, "the end": 12.5 true false null {"a": [1, 2]} ' * 30, 290
)
CHARS = CharTokenizer.train(string.printable + "éü🙂")
CONFIG = GPTConfig(
    vocab_size=300, context_length=128, emb_dim=16, n_heads=2, n_layers=1, position="rope"
)


def wild_model(n_vocab: int, seed: int) -> GPTModel:
    torch.manual_seed(seed)
    model = GPTModel(replace(CONFIG, vocab_size=n_vocab))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def matches(state: tuple, text: str) -> bool:
    return nullable(after(state, text.encode()))


ATOMS = st.sampled_from(
    [
        "a",
        "b",
        "c",
        "é",
        "🙂",
        ".",
        "[ab]",
        "[^a]",
        "[a-c]",
        r"\d",
        r"\w",
        r"\.",
        "(ab|c)",
        "(?:a|)",
        r"[^\x00-\x62é]",
        r"[\d.-]",
        "[]a]",
        "[^]]",
    ]
)
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(
            inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}", "*?"])
        ).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: "(" + "|".join(parts) + ")"),
    ),
    max_leaves=6,
)


@settings(max_examples=300)
@given(EXPRESSIONS, st.lists(st.text("abcdé🙂.1]\n", max_size=6), max_size=8))
def test_expressions_match_what_pythons_do(expression, texts):
    """Oracle: re.fullmatch, with classes of ASCII as here."""
    state = parse(expression)
    for text in texts:
        assert matches(state, text) == bool(re.fullmatch(expression, text, re.ASCII)), (
            expression,
            text,
        )


@settings(max_examples=60)
@given(st.integers(0, 0x10FFFF), st.integers(0, 0x10FFFF), st.integers(0, 0x10FFFF))
def test_a_class_holds_the_characters_between_its_ends(low, high, other):
    """Oracle: comparing code points."""
    low, high = sorted((low, high))
    ends = [low, high, max(low - 1, 0), min(high + 1, 0x10FFFF), other]
    from ch07_practice.decoding.regex_derivatives import characters, complement

    inside, outside = characters([(low, high)]), characters(complement([(low, high)]))
    for point in ends:
        if not 0xD800 <= point <= 0xDFFF:
            assert matches(inside, chr(point)) == (low <= point <= high)
            assert matches(outside, chr(point)) == (not low <= point <= high)


def test_equal_states_are_found_equal_so_that_automata_stay_small():
    """Oracle: textbook sizes: (a|b)*abb has four states."""
    states, queue = set(), [parse("(a|b)*abb")]
    while queue:
        state = queue.pop()
        if state not in states:
            states.add(state)
            queue += [there for byte in b"ab" if (there := after(state, bytes([byte]))) != NOTHING]
    assert len(states) == 4


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("(ab", r"missing \), unterminated subpattern at position 0"),
        ("ab)", "unbalanced parenthesis at position 2"),
        ("*a", "nothing to repeat at position 0"),
        ("[b-a]", "bad character range b-a"),
        ("a{3,2}", "min repeat greater than max repeat"),
        (r"(?=a)", "look-around is not supported"),
        (r"(a)\1", "a back-reference is not supported"),
        ("(?i)a", "flags"),
        ("(?i:a)", "a group with flags is not supported"),
        ("a{50000}", "expand to 100,000 nodes, more than 40,000"),
        (r"\b", "an anchor .* is not supported"),
        ("[a", "unterminated character set"),
        (r"\xg1", "incomplete escape"),
        ("^a$", "an anchor .* is not supported"),
    ],
)
def test_unsupported_expressions_are_refused(expression, words):
    with pytest.raises(ValueError, match=words):
        parse(expression)


PATTERNS = [
    r"\d{4}-\d{2}-\d{2}",
    "(yes|no|the cat)",
    r"[a-z]+( [a-z]+)*\.",
    r"-?\d+(\.\d+)?",
    "(naïve|🙂🙃){2}",
    r'"[^"\\]*"',
    "a*",
    ".{3,5}",
]


@settings(max_examples=80)
@given(
    st.sampled_from(PATTERNS),
    st.sampled_from([BPE, CHARS]),
    st.integers(0, 1000),
    st.integers(0, 12),
    st.sampled_from([0.0, 1.0, 3.0]),
)
def test_every_text_is_valid_however_short_the_limit(
    expression, tokenizer, seed, spare, temperature
):
    """Oracle: re.fullmatch on what an untrained model with wild weights writes, stopped by a
    limit or by itself.
    """
    vocabulary = Vocabulary(tokenizer)
    if tokenizer is CHARS and "ï" in expression:
        with pytest.raises(ValueError, match="no text of this vocabulary matches"):
            RegexConstraint(Pattern(expression, vocabulary), 50)
        return
    pattern = Pattern(expression, vocabulary)
    limit = max(1, pattern.distance(pattern.start)) + spare
    constraint = RegexConstraint(pattern, limit)
    (completion,) = complete(
        wild_model(tokenizer.n_vocab, seed),
        [[1]],
        limit,
        temperature=temperature,
        stop_ids=[tokenizer.eot_id],
        constraints=[constraint],
        generator=torch.Generator().manual_seed(seed),
    )
    assert re.fullmatch(expression, tokenizer.decode(completion.ids)), tokenizer.decode(
        completion.ids
    )


@pytest.mark.parametrize("end_id", [None, BPE.tokens.index(b"\0")])
def test_the_mask_is_that_of_trying_every_token(end_id):
    """Oracle: each token's text appended and tried, by re with partial matching written out for
    this pattern. A text ends with <|endoftext|>, or with the token that is given.
    """
    end = BPE.eot_id if end_id is None else end_id
    pattern = Pattern("(the (cat|mat|end)|[0-9]{1,2})", Vocabulary(BPE, end_id))
    for begun in ("", "the", "the ", "the c", "1", "12"):
        constraint = RegexConstraint(pattern, 40)
        constraint.state = after(pattern.start, begun.encode())
        whole = [
            "the cat",
            "the mat",
            "the end",
            *map(str, range(100)),
            *(f"0{d}" for d in range(10)),
        ]
        expected = {
            i
            for i, token in enumerate(BPE.tokens)
            if any(text.encode().startswith(begun.encode() + token) for text in whole)
        }
        allowed = set(constraint.allowed().nonzero().flatten().tolist())
        assert allowed - {end} == expected
        assert (end in allowed) == (begun in whole)


def test_rows_may_have_constraints_of_their_own():
    model = wild_model(BPE.n_vocab, 3)
    vocabulary = Vocabulary(BPE)
    constraints = [
        RegexConstraint(Pattern(e, vocabulary), 20) if e else None for e in ("yes|no", None, r"\d+")
    ]
    found = complete(
        model,
        [[1], [2, 3], [4]],
        20,
        temperature=1.0,
        stop_ids=[BPE.eot_id],
        constraints=constraints,
        generator=torch.Generator().manual_seed(0),
    )
    assert BPE.decode(found[0].ids) in ("yes", "no")
    assert BPE.decode(found[2].ids).isdecimal()


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer"},
        "mood": {"enum": ["happy", "sad"]},
        "seen": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    },
    "required": ["name", "age", "mood"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("seed", range(8))
def test_json_obeys_its_schema(seed):
    """Oracle: json.loads and the schema's rules, written out."""
    pytest.importorskip("outlines_core")
    pattern = Pattern(json_expression(SCHEMA), Vocabulary(BPE))
    constraint = RegexConstraint(pattern, 100)
    (completion,) = complete(
        wild_model(BPE.n_vocab, seed),
        [[1]],
        100,
        temperature=1.0,
        stop_ids=[BPE.eot_id],
        constraints=[constraint],
        generator=torch.Generator().manual_seed(seed),
    )
    found = json.loads(BPE.decode(completion.ids))
    assert {"name", "age", "mood"} <= set(found) <= set(SCHEMA["properties"])
    assert len(found["name"]) <= 8
    assert isinstance(found["age"], int)
    assert found["mood"] in ("happy", "sad")
    assert all(isinstance(value, bool) for value in found.get("seen", []))


def test_impossible_constraints_are_refused_before_any_work():
    vocabulary = Vocabulary(BPE)
    with pytest.raises(ValueError, match="may need 10 tokens"):
        RegexConstraint(Pattern(r"\d{4}-\d{2}-\d{2}", vocabulary), 9)
    with pytest.raises(ValueError, match="nothing to choose from"):
        choice_expression([])
    with pytest.raises(ValueError, match="word tokenizer cannot be constrained"):
        Vocabulary(WordTokenizer.train("a b"))
    pytest.importorskip("outlines_core")
    with pytest.raises(ValueError, match="this JSON schema cannot be used"):
        json_expression({"type": "nope"})


def test_choices_may_hold_any_sign():
    """Oracle: Python's re, which escapes them too."""
    choices = ["a.b", "c*", "(d", "e|f", "ü", "new\nline", "tab\t#"]
    state = parse(choice_expression(choices))
    assert all(matches(state, choice) for choice in choices)
    assert not any(matches(state, other) for other in ("axb", "cc", "e", "f", ""))
    assert (
        list(islice((c for c in choices if re.fullmatch(choice_expression(choices), c)), 9))
        == choices
    )
