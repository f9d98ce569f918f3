"""Regular expressions as automata over bytes, by derivatives (Brzozowski 1964).

The derivative of an expression by a byte is what has to follow that byte. Expressions are the
states of the automaton, derivatives its transitions, and those that match the empty string its
ends; states are made as they are met. Supported is what a format needs: literals, ., [...], \\d \\w
\\s and the like (of ASCII), (...), (?:...), |, *, +, ?, {m,n}; no anchors, references or
look-around, and greedy or not makes no difference to what matches.
"""

from functools import lru_cache, reduce

# An expression is one of ("nothing",), ("empty",), ("byte", frozenset of ints), ("then", a, b),
# ("or", frozenset of expressions), ("many", a). The functions below keep them in one form each, so
# that equal states are equal tuples and only NOTHING matches nothing.
NOTHING, EMPTY = ("nothing",), ("empty",)
LARGEST = 0x10FFFF
# that repetitions may be written out to; much longer chains would overflow the interpreter's stack
MOST_PARTS = 40_000


def one_of(values) -> tuple:
    return ("byte", frozenset(values)) if values else NOTHING


def then(*parts: tuple) -> tuple:
    """All `parts`, one after the other."""

    def pair(a: tuple, b: tuple) -> tuple:
        if NOTHING in (a, b):
            return NOTHING
        if EMPTY in (a, b):
            return b if a == EMPTY else a
        return then(a[1], pair(a[2], b)) if a[0] == "then" else ("then", a, b)

    return reduce(lambda b, a: pair(a, b), reversed(parts), EMPTY)


def either(*choices: tuple) -> tuple:
    """Any one of `choices`."""
    parts = set()
    for choice in choices:
        parts |= choice[1] if choice[0] == "or" else {choice}
    parts.discard(NOTHING)
    single = [part for part in parts if part[0] == "byte"]
    if len(single) > 1:
        parts = parts.difference(single) | {one_of(frozenset.union(*(part[1] for part in single)))}
    if len(parts) < 2:
        return parts.pop() if parts else NOTHING
    return ("or", frozenset(parts))


def many(part: tuple) -> tuple:
    """`part` any number of times, none included."""
    return part if part[0] == "many" else EMPTY if part in (NOTHING, EMPTY) else ("many", part)


@lru_cache(maxsize=2**18)
def matches_empty(state: tuple) -> bool:
    kind = state[0]
    if kind == "then":
        return matches_empty(state[1]) and matches_empty(state[2])
    if kind == "or":
        return any(map(matches_empty, state[1]))
    return kind in ("empty", "many")


@lru_cache(maxsize=2**18)
def derivative(state: tuple, byte: int) -> tuple:
    """What must follow after `byte` where `state` was to match; NOTHING where nothing can."""
    kind = state[0]
    if kind == "byte":
        return EMPTY if byte in state[1] else NOTHING
    if kind == "then":
        first = then(derivative(state[1], byte), state[2])
        return either(first, derivative(state[2], byte)) if matches_empty(state[1]) else first
    if kind == "or":
        return either(*(derivative(choice, byte) for choice in state[1]))
    if kind == "many":
        return then(derivative(state[1], byte), state)
    return NOTHING


def after(state: tuple, text: bytes) -> tuple:
    """The state after all bytes of `text`."""
    return reduce(derivative, text, state)


def _between(low: bytes, high: bytes) -> tuple:
    """All strings of bytes from `low` to `high`, of the same length, whose later bytes continue
    a UTF-8 character.
    """
    if len(low) == 1:
        return one_of(range(low[0], high[0] + 1))
    smallest, largest = b"\x80" * (len(low) - 1), b"\xbf" * (len(low) - 1)
    if low[0] == high[0]:
        return then(one_of([low[0]]), _between(low[1:], high[1:]))
    return either(
        then(one_of([low[0]]), _between(low[1:], largest)),
        then(one_of(range(low[0] + 1, high[0])), _between(smallest, largest)),
        then(one_of([high[0]]), _between(smallest, high[1:])),
    )


def characters(ranges: list[tuple[int, int]]) -> tuple:
    """One character whose code point is in one of the `ranges` (both ends included), as UTF-8."""
    # as long, no surrogates
    bounds = [(0, 0x7F), (0x80, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFF), (0x10000, LARGEST)]
    return either(
        *(
            _between(chr(max(low, first)).encode(), chr(min(high, last)).encode())
            for low, high in ranges
            for first, last in bounds
            if max(low, first) <= min(high, last)
        )
    )


def literal(text: str) -> tuple:
    return then(*(one_of([byte]) for byte in text.encode()))


def complement(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """All code points that are in none of the `ranges`."""
    rest, start = [], 0
    for low, high in sorted(ranges):
        if low > start:
            rest.append((start, low - 1))
        start = max(start, high + 1)
    return [*rest, (start, LARGEST)] if start <= LARGEST else rest


DIGIT = [(48, 57)]
WORD = [(48, 57), (65, 90), (95, 95), (97, 122)]
SPACE = [(9, 13), (32, 32)]
CLASSES = {
    "d": DIGIT,
    "w": WORD,
    "s": SPACE,
    "D": complement(DIGIT),
    "W": complement(WORD),
    "S": complement(SPACE),
}
ESCAPES = {"n": 10, "t": 9, "r": 13, "f": 12, "v": 11, "0": 0}


def n_parts(state: tuple) -> int:
    """How many expressions there are in an expression, itself included."""
    n, stack = 0, [state]
    while stack:
        kind, *parts = stack.pop()
        n += 1
        stack += [] if kind == "byte" else parts[0] if kind == "or" else parts
    return n


class _Parser:
    def __init__(self, pattern: str):
        self.pattern, self.at, self.written = pattern, 0, 0

    def fail(self, why: str) -> ValueError:
        return ValueError(
            f"the regular expression {self.pattern!r} cannot be used: {why} at position {self.at}"
        )

    def peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def take(self, expected: str = "") -> str:
        char = self.peek()
        if not char or (expected and char != expected):
            raise self.fail(f"{expected!r} is missing" if expected else "it ends too early")
        self.at += 1
        return char

    def alternatives(self) -> tuple:
        choices = [self.sequence()]
        while self.peek() == "|":
            self.take()
            choices.append(self.sequence())
        return either(*choices)

    def sequence(self) -> tuple:
        parts = []
        while self.peek() not in ("", "|", ")"):
            parts.append(self.repeated())
        return then(*parts)

    def repeated(self) -> tuple:
        part = self.atom()
        while (sign := self.peek()) and sign in "*+?{":
            self.take()
            if sign == "{":
                part = self.bounded(part)
            else:
                part = {"*": many(part), "+": then(part, many(part)), "?": either(part, EMPTY)}[
                    sign
                ]
            if self.peek() == "?":
                self.take()
        return part

    def number(self) -> int | None:
        start = self.at
        while self.peek().isdecimal():
            self.take()
        return int(self.pattern[start : self.at]) if self.at > start else None

    def bounded(self, part: tuple) -> tuple:
        least = self.number() or 0
        most = least
        if self.peek() == ",":
            self.take()
            most = self.number()
        self.take("}")
        if most is None:
            return then(*[part] * least, many(part))
        if most < least:
            raise self.fail("a repetition from more to fewer")
        self.written += (n_parts(part) + 1) * (least if most is None else most)
        if self.written > MOST_PARTS:
            raise self.fail(
                f"repetitions are too large, {self.written:,} parts of at most {MOST_PARTS:,},"
            )
        optional = reduce(
            lambda rest, _: either(then(part, rest), EMPTY), range(most - least), EMPTY
        )
        return then(*[part] * least, optional)

    def atom(self) -> tuple:
        char = self.take()
        if char == "(":
            if self.peek() == "?":
                self.take()
                if self.take() != ":":
                    raise self.fail("only (...) and (?:...) are supported, a group of another kind")
            inner = self.alternatives()
            self.take(")")
            return inner
        if char == "[":
            return characters(self.bracket())
        if char == ".":
            return characters(complement([(10, 10)]))
        if char == "\\":
            return characters(self.escaped())
        if char in "*+?{^$":
            raise self.fail(
                f"{char!r} stands where a character should; write \\{char} for the sign itself"
            )
        return literal(char)

    def escaped(self) -> list[tuple[int, int]]:
        char = self.take()
        if char in CLASSES:
            return CLASSES[char]
        if char in "xu":
            digits = "".join(self.take() for _ in range(2 if char == "x" else 4))
            try:
                return [(int(digits, 16),) * 2]
            except ValueError:
                raise self.fail("hexadecimal digits are missing") from None
        if char.isalnum() and char not in ESCAPES:
            raise self.fail(f"\\{char} is not supported")
        return [(ESCAPES.get(char, ord(char)),) * 2]

    def bracket(self) -> list[tuple[int, int]]:
        negated = self.peek() == "^"
        if negated:
            self.take()
        ranges = []
        while self.peek() != "]" or not ranges:
            char = self.take()
            low = self.escaped() if char == "\\" else [(ord(char),) * 2]
            if self.peek() == "-" and self.pattern[self.at + 1 : self.at + 2] != "]":
                self.take()
                char = self.take()
                high = self.escaped() if char == "\\" else [(ord(char),) * 2]
                if len(low) > 1 or len(high) > 1 or low[0][0] > high[0][1]:
                    raise self.fail("a range from later to earlier")
                low = [(low[0][0], high[0][1])]
            ranges += low
        self.take("]")
        return complement(ranges) if negated else ranges


def parse(pattern: str) -> tuple:
    """A regular expression in Python's notation -> the state in which nothing has been read yet.
    ValueError, with the position, where it is not understood.
    """
    parser = _Parser(pattern)
    state = parser.alternatives()
    if parser.at < len(pattern):
        raise parser.fail("a ')' too many")
    return state
