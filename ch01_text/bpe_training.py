"""How a byte-pair encoding is learned, fast: words are counted once, and a merge touches only the
words that contain its pair.

`train_merges_reference` recounts all pairs for every merge, as the paper's listing does.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise

import regex

# GPT-2 numbers the 256 bytes with the visible characters first.
BYTES = [*range(33, 127), *range(161, 173), *range(174, 256), *range(33), *range(127, 161), 173]
# the inverse of BYTES, as a table for `bytes.translate`
_BYTE_TO_ID = bytes(BYTES.index(b) for b in range(256))

Pair = tuple[int, int]


def count_words(documents: Iterable[str], pattern: str) -> Counter[str]:
    """How often each chunk of the pattern occurs: merges never cross chunks, so order does not
    matter.
    """
    compiled = regex.compile(pattern)
    counts: Counter[str] = Counter()
    for document in documents:
        # A long text has far fewer distinct words than words. Counted once, each is split and
        # merged once, however often it occurs.
        counts.update(compiled.findall(document))
    return counts


def merge_pair(word: list[int], pair: Pair, new: int) -> list[int]:
    """Replace every occurrence of `pair`, from left to right.

    >>> merge_pair([1, 1, 1, 2], (1, 1), 9)
    [9, 1, 2]
    """
    merged, i = [], 0
    while i < len(word):
        if word[i] == pair[0] and i + 1 < len(word) and word[i + 1] == pair[1]:
            merged.append(new)
            i += 2
        else:
            merged.append(word[i])
            i += 1
    return merged


def train_merges_reference(word_counts: Counter[str], n_new: int) -> list[tuple[bytes, bytes]]:
    """The paper's algorithm: count all pairs, merge the most frequent one, repeat."""
    tokens = [bytes([b]) for b in BYTES]
    words = {word: list(word.encode().translate(_BYTE_TO_ID)) for word in word_counts}
    merges = []
    while len(tokens) < 256 + n_new:
        counts: Counter[Pair] = Counter()
        for word, ids in words.items():
            for pair in pairwise(ids):
                counts[pair] += word_counts[word]
        if not counts:
            break
        pair = min(counts, key=lambda p: (-counts[p], p))  # ties: the lowest ids
        merges.append((tokens[pair[0]], tokens[pair[1]]))
        union = tokens[pair[0]] + tokens[pair[1]]
        # already a token if another pair gave the same bytes
        if union not in tokens:
            tokens.append(union)
        words = {word: merge_pair(ids, pair, tokens.index(union)) for word, ids in words.items()}
    return merges


def train_merges(
    word_counts: Counter[str], n_new: int
) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
    """Learn up to `n_new` tokens beyond the 256 bytes. Returns all tokens in order of their ids,
    and the merges.

    The most frequent pair is merged first; ties go to the lower ids. A union that is already a
    token, made from another pair, keeps its id.
    """
    tokens = [bytes([b]) for b in BYTES]
    ids = {token: i for i, token in enumerate(tokens)}
    # each distinct word once, as ids; its frequency is its weight in all counts
    words = [list(word.encode().translate(_BYTE_TO_ID)) for word in word_counts]
    frequencies = list(word_counts.values())
    counts, places = _count_pairs(words, frequencies)
    # heapq pops the smallest entry: the highest count and, among equal counts, the lowest ids
    queue = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(queue)
    merges = []
    while len(tokens) < 256 + n_new and queue:
        count, pair = heapq.heappop(queue)
        # A heap cannot change an entry in place. A count that rises gets a second entry at the end
        # of the loop; a count that falls keeps its entry, which comes too early and is corrected
        # here.
        if counts[pair] != -count:
            if 0 < counts[pair] < -count:
                heapq.heappush(queue, (-counts[pair], pair))
            continue
        left, right = tokens[pair[0]], tokens[pair[1]]
        merges.append((left, right))
        # "aba" can be "ab" + "a" in one word and "a" + "ba" in another: two merges, one token
        new = ids.setdefault(left + right, len(tokens))
        if new == len(tokens):
            tokens.append(left + right)
        grown: set[Pair] = set()
        for place in places.pop(pair):
            words[place] = _merge_in_word(
                words[place], pair, new, frequencies[place], place, counts, places, grown
            )
        # `_merge_in_word` updates the pairs beside a merge, but not the merged pair itself
        counts[pair] = 0
        for changed in grown:
            if counts[changed] > 0:
                heapq.heappush(queue, (-counts[changed], changed))
    return tokens, merges


def _count_pairs(
    words: list[list[int]], frequencies: list[int]
) -> tuple[dict[Pair, int], dict[Pair, set[int]]]:
    # `places` holds indices of words. Merging never removes one, so a word in it may have lost the
    # pair; it then goes through `_merge_in_word` unchanged.
    counts: dict[Pair, int] = defaultdict(int)
    places: dict[Pair, set[int]] = defaultdict(set)
    for place, (word, frequency) in enumerate(zip(words, frequencies, strict=True)):
        for pair in pairwise(word):
            counts[pair] += frequency
            places[pair].add(place)
    return counts, places


def _merge_in_word(
    word: list[int],
    pair: Pair,
    new: int,
    frequency: int,
    place: int,
    counts: dict[Pair, int],
    places: dict[Pair, set[int]],
    grown: set[Pair],
) -> list[int]:
    """`merge_pair` that also keeps the pair counts right; only the neighbours of a merge change."""
    first, second = pair
    merged, i, last = [], 0, len(word) - 1
    while i <= last:
        if i == last or word[i] != first or word[i + 1] != second:
            merged.append(word[i])
            i += 1
            continue
        # (before, first) becomes (before, new); `before` is `new` itself right after another merge
        if merged:
            before = merged[-1]
            counts[before, first] -= frequency
            counts[before, new] += frequency
            places[before, new].add(place)
            grown.add((before, new))
        # (second, after) becomes (new, after); should `after` begin the next merge, that merge
        # turns (new, first) into (new, new)
        if i + 2 <= last:
            after = word[i + 2]
            counts[second, after] -= frequency
            counts[new, after] += frequency
            places[new, after].add(place)
            grown.add((new, after))
        merged.append(new)
        i += 2
    return merged
