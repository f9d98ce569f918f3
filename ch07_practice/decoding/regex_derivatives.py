"""Regular expressions as automata over bytes, by derivatives (Brzozowski 1964).

The derivative of an expression with respect to a byte matches whatever may follow that byte.
Expressions are the states of the automaton, derivatives its transitions, and nullable expressions
(those that match the empty string) its accepting states. States are built when they are first
reached. Python's own `re` parses the notation. Supported: literals, ., [...], \\d \\w \\s and the
like (ASCII only), groups, |, *, +, ?, {m,n}; laziness does not change which texts match. Left out:
anchors, back-references and look-around.
"""

import re
import re._parser as sre
from functools import lru_cache, reduce

# An expression is one of ("nothing",), which matches no text; ("empty",), which matches the empty
# text; ("byte", frozenset of ints); ("concat", a, b); ("union", frozenset of expressions);
# ("star", a). The constructors below normalize them, so that the automaton stays small: equal
# states are equal tuples, and NOTHING is the only expression without a match.
NOTHING, EMPTY = ("nothing",), ("empty",)
MAX_CODE_POINT = 0x10FFFF
# Limit for expanding {m,n}; much longer chains would overflow the interpreter's stack.
MAX_NODES = 40_000


def byte_set(values) -> tuple:
    """Any one byte of `values`."""
    return ("byte", frozenset(values)) if values else NOTHING


def concat(*parts: tuple) -> tuple:
    """All `parts`, one after the other, nested to the right."""

    def pair(a: tuple, b: tuple) -> tuple:
        if NOTHING in (a, b):
            return NOTHING
        if EMPTY in (a, b):
            return b if a == EMPTY else a
        return concat(a[1], pair(a[2], b)) if a[0] == "concat" else ("concat", a, b)

    return reduce(lambda b, a: pair(a, b), reversed(parts), EMPTY)


def union(*choices: tuple) -> tuple:
    """Any one of `choices`."""
    parts: set[tuple] = set()
    for choice in choices:
        parts |= choice[1] if choice[0] == "union" else {choice}
    parts.discard(NOTHING)
    single = [part for part in parts if part[0] == "byte"]
    if len(single) > 1:
        parts = parts.difference(single) | {
            byte_set(frozenset.union(*(part[1] for part in single)))
        }
    if len(parts) < 2:
        return parts.pop() if parts else NOTHING
    return ("union", frozenset(parts))


def star(part: tuple) -> tuple:
    """`part` zero or more times."""
    return part if part[0] == "star" else EMPTY if part in (NOTHING, EMPTY) else ("star", part)


@lru_cache(maxsize=2**18)
def nullable(state: tuple) -> bool:
    """Whether `state` matches the empty text."""
    kind = state[0]
    if kind == "concat":
        return nullable(state[1]) and nullable(state[2])
    if kind == "union":
        return any(map(nullable, state[1]))
    return kind in ("empty", "star")


@lru_cache(maxsize=2**18)
def derivative(state: tuple, byte: int) -> tuple:
    """The expression that must match the rest after `byte`; NOTHING if no text begins with it."""
    kind = state[0]
    if kind == "byte":
        return EMPTY if byte in state[1] else NOTHING
    if kind == "concat":
        first = concat(derivative(state[1], byte), state[2])
        return union(first, derivative(state[2], byte)) if nullable(state[1]) else first
    if kind == "union":
        return union(*(derivative(choice, byte) for choice in state[1]))
    if kind == "star":
        return concat(derivative(state[1], byte), state)
    return NOTHING


def after(state: tuple, text: bytes) -> tuple:
    """The state after all bytes of `text`."""
    return reduce(derivative, text, state)


def _between(low: bytes, high: bytes) -> tuple:
    """All UTF-8 characters from `low` to `high`, which are encoded in the same number of bytes."""
    if len(low) == 1:
        return byte_set(range(low[0], high[0] + 1))
    smallest, largest = b"\x80" * (len(low) - 1), b"\xbf" * (len(low) - 1)
    if low[0] == high[0]:
        return concat(byte_set([low[0]]), _between(low[1:], high[1:]))
    return union(
        concat(byte_set([low[0]]), _between(low[1:], largest)),
        concat(byte_set(range(low[0] + 1, high[0])), _between(smallest, largest)),
        concat(byte_set([high[0]]), _between(smallest, high[1:])),
    )


def characters(ranges: list[tuple[int, int]]) -> tuple:
    """One character, as UTF-8, whose code point is in one of the `ranges` (ends included)."""
    # ranges of equal encoded length, without surrogates
    bounds = [
        (0, 0x7F),
        (0x80, 0x7FF),
        (0x800, 0xD7FF),
        (0xE000, 0xFFFF),
        (0x10000, MAX_CODE_POINT),
    ]
    return union(
        *(
            _between(chr(max(low, first)).encode(), chr(min(high, last)).encode())
            for low, high in ranges
            for first, last in bounds
            if max(low, first) <= min(high, last)
        )
    )


def complement(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The code points that are in none of the `ranges`, as ranges."""
    rest, start = [], 0
    for low, high in sorted(ranges):
        if low > start:
            rest.append((start, low - 1))
        start = max(start, high + 1)
    return [*rest, (start, MAX_CODE_POINT)] if start <= MAX_CODE_POINT else rest


DIGIT = [(48, 57)]
WORD = [(48, 57), (65, 90), (95, 95), (97, 122)]
SPACE = [(9, 13), (32, 32)]
CATEGORIES = {
    sre.CATEGORY_DIGIT: DIGIT,
    sre.CATEGORY_NOT_DIGIT: complement(DIGIT),
    sre.CATEGORY_WORD: WORD,
    sre.CATEGORY_NOT_WORD: complement(WORD),
    sre.CATEGORY_SPACE: SPACE,
    sre.CATEGORY_NOT_SPACE: complement(SPACE),
}
UNSUPPORTED = {
    sre.AT: "an anchor (^, $ or \\b)",
    sre.ASSERT: "look-around",
    sre.ASSERT_NOT: "look-around",
    sre.GROUPREF: "a back-reference",
    sre.SUBPATTERN: "a group with flags",
}


def n_nodes(state: tuple) -> int:
    """The number of nodes of an expression's tree."""
    n, stack = 0, [state]
    while stack:
        kind, *parts = stack.pop()
        n += 1
        stack += [] if kind == "byte" else parts[0] if kind == "union" else parts
    return n


class _Translator:
    """From the syntax tree of Python's `re` to an expression of ours."""

    def __init__(self):
        self.n_expanded = 0  # nodes that repetitions were expanded to

    def sequence(self, items) -> tuple:
        return concat(*(self.item(operator, argument) for operator, argument in items))

    def item(self, operator, argument) -> tuple:
        if operator in (sre.LITERAL, sre.NOT_LITERAL, sre.RANGE, sre.CATEGORY, sre.IN, sre.ANY):
            return characters(self.ranges(operator, argument))
        if operator in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            low, high, items = argument
            return self.repeat(self.sequence(items), low, high)
        if operator is sre.BRANCH:
            return union(*map(self.sequence, argument[1]))
        if operator is sre.SUBPATTERN and not any(argument[1:3]):  # without flags such as (?i:...)
            return self.sequence(argument[3])
        raise ValueError(f"{UNSUPPORTED.get(operator, str(operator).lower())} is not supported")

    def ranges(self, operator, argument) -> list[tuple[int, int]]:
        """The code points of one character or one character class."""
        if operator is sre.IN:
            negated = argument[0][0] is sre.NEGATE
            found = [pair for item in argument[negated:] for pair in self.ranges(*item)]
            return complement(found) if negated else found
        if operator is sre.CATEGORY:
            return CATEGORIES[argument]
        if operator is sre.ANY:
            return complement([(ord("\n"), ord("\n"))])
        if operator is sre.RANGE:
            return [argument]
        one = [(argument, argument)]
        return complement(one) if operator is sre.NOT_LITERAL else one

    def repeat(self, part: tuple, low: int, high: int) -> tuple:
        n_copies = low if high == sre.MAXREPEAT else high
        if n_copies > 1:
            self.n_expanded += (n_nodes(part) + 1) * n_copies
        if self.n_expanded > MAX_NODES:
            raise ValueError(
                f"its repetitions expand to {self.n_expanded:,} nodes, more than {MAX_NODES:,}"
            )
        if high == sre.MAXREPEAT:
            return concat(*[part] * low, star(part))
        optional = reduce(
            lambda rest, _: union(concat(part, rest), EMPTY), range(high - low), EMPTY
        )
        return concat(*[part] * low, optional)


def parse(pattern: str) -> tuple:
    """A regular expression in Python's notation -> the automaton's start state. ValueError if it is
    invalid, or uses more than this module supports.
    """
    try:
        tree = sre.parse(pattern, re.ASCII)
        if tree.state.flags != re.ASCII:
            raise ValueError("flags such as (?i) are not supported")
        return _Translator().sequence(tree)
    except (re.error, OverflowError, ValueError) as error:
        raise ValueError(f"the regular expression {pattern!r} cannot be used: {error}") from None
