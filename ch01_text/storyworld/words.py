"""The words of the village: people, places, things, and the pairs kept out of the training stories.

No word is unseen in the test stories (a model trained from scratch has no embedding for such a
word), but pairs are: a stable hash keeps about a tenth of all (person, person) and (person, object)
pairs for the test stories. Left out: the sentences, which are in `phrases`.
"""

from zlib import crc32

SHE = tuple(
    """Anna Maria Lucy Emma Nora Zara Mei Yuki Aisha Fatima Priya Leila Ingrid Freya Sofia Elena
    Chloe
    Amara Nadia Olga Hana Keiko Carmen Greta Bella Ines Maya Tara Eva Alice""".split()
)
HE = tuple(
    """Tom Ben Omar Ali Ravi Arjun Kenji Hiro Wei Chen Jan Lars Erik Sven Ivan Boris Pablo Diego
    Marco
    Luca Pierre Hugo Kofi Kwame Tariq Yusuf David Samuel Peter Felix""".split()
)
PEOPLE = SHE + HE

ROLES = tuple(
    """baker miller painter tailor teacher gardener shepherd weaver potter musician farmer beekeeper
    clockmaker carpenter sailor doctor cook dancer poet blacksmith shoemaker juggler bookbinder
    glassblower woodcutter hatter innkeeper actor astronomer""".split()
)

# (he, him, his) of everybody
PRONOUNS = dict.fromkeys(SHE, ("she", "her", "her")) | dict.fromkeys(HE, ("he", "him", "his"))

# A place and the word that says being there: "at the mill".
PLACES = {
    place: preposition
    for preposition, places in {
        "at": "mill school market inn forge farm station harbour lighthouse bakery",
        "in": (
            "orchard barn church stable garden meadow library tower forest castle square cottage "
            "vineyard greenhouse cellar"
        ),
        "by": "river lake pond fountain",
        "on": "bridge hill beach",
    }.items()
    for place in places.split()
}

# kind: where such things lie when a story begins
KEPT = {
    "toy": "school garden meadow square beach cottage",
    "music": "inn church school square tower",
    "tool": "forge barn stable farm mill harbour cellar greenhouse",
    "cloth": "cottage inn market station castle",
    "food": "bakery market orchard farm vineyard inn",
    "treasure": "castle tower church market lake cellar",
    "paper": "library school station lighthouse inn",
    "nature": "beach river forest meadow lake hill pond bridge",
    "container": "barn market farm mill stable cottage harbour orchard",
}

# kind, thing, adjectives that suit it
_THINGS = """
toy kite red paper striped yellow
toy ball blue rubber bouncy leather
toy doll pretty rag smiling china
toy puppet wooden funny painted singing
toy marble green glass shiny speckled
toy balloon yellow pink round enormous
toy whistle tin loud shiny wooden
music flute silver slender old ebony
music violin polished brown fine precious
music drum big loud round tattered
music bell brass little cracked silver
music trumpet golden dented loud splendid
music guitar old fine painted Spanish
tool hammer heavy iron new mighty
tool rope long thick strong twisted
tool shovel rusty sturdy old pointed
tool broom worn new crooked birch
tool rake rusty long wooden bent
tool lantern bright iron old swinging
tool lamp oil brass small lopsided
tool key rusty tiny strange iron
tool candle white wax tall scented
tool compass brass handy sailor's reliable
tool clock ticking broken old cuckoo
tool umbrella black huge spotted violet
cloth scarf woollen warm checked tartan
cloth hat straw tall feathered velvet
cloth coat thick grey patched threadbare
cloth blanket soft warm quilted tasselled
cloth glove leather fluffy warm mustard
cloth shawl silk purple knitted lace
cloth ribbon silk pink velvet satin
cloth cloak dark hooded velvet emerald
food apple ripe red juicy rosy
food pear ripe yellow sweet golden
food plum purple sweet juicy ripe
food pie cherry warm tasty blackberry
food loaf fresh crusty warm rye
food cake chocolate birthday delicious honey
food cheese round creamy smelly mild
food pumpkin huge orange ripe knobbly
food carrot crunchy orange fresh fat
food melon juicy huge sweet heavy
treasure ring golden plain sparkling engraved
treasure coin silver ancient shiny copper
treasure necklace pearly delicate sparkling turquoise
treasure pearl white gleaming rare perfect
treasure crown golden tiny gleaming jewelled
treasure mirror oval cracked silver magic
treasure vase blue delicate tall porcelain
paper book thick dusty famous yellowed
paper map faded secret torn crumpled
paper letter sealed secret long scented
paper picture lovely framed tiny charming
paper notebook little dusty thick chequered
paper postcard faded colourful lovely creased
nature shell pink smooth curly spiral
nature feather white long fluffy peacock
nature flower blue lovely wild fragrant
nature stone smooth grey sparkling heart-shaped
container basket wicker big brown straw
container box wooden square-cut little cardboard
container bag leather brown canvas velvet
container sack big linen patched dusty
container chest oak heavy carved iron
container bucket tin wooden big leaky
"""

KIND = {}  # of every thing
ADJECTIVES = {}  # of every thing
for _line in _THINGS.split("\n")[1:-1]:
    _kind, _thing, *_adjectives = _line.split()
    KIND[_thing], ADJECTIVES[_thing] = _kind, tuple(_adjectives)

CONTAINERS = tuple(thing for thing, kind in KIND.items() if kind == "container")
THINGS = tuple(KIND)
BULKY = frozenset(  # what does not go into a container
    """kite balloon drum guitar violin rope shovel broom rake umbrella
    pumpkin coat blanket cloak""".split()
)
STARTS = {thing: tuple(KEPT[kind].split()) for thing, kind in KIND.items()}
PLACE_NAMES = tuple(PLACES)

HELD_OUT_ONE_IN = 10


def held_out(first: str, second: str) -> bool:
    """Say whether training stories never have both; symmetric, and the same on every machine.

    >>> held_out("Tom", "kite") == held_out("kite", "Tom")
    True
    """
    pair = f"{min(first, second)}+{max(first, second)}"
    return crc32(pair.encode()) % HELD_OUT_ONE_IN == 0


# Everybody and everything that a person never shares a training story with, and the other way
# round.
APART = {
    one: frozenset(
        other
        for other in PEOPLE + THINGS
        if one != other and (one in PRONOUNS or other in PRONOUNS) and held_out(one, other)
    )
    for one in PEOPLE + THINGS
}


def the(noun: str) -> str:
    """Name a place or a thing: `the("mill")` is "the mill"."""
    return "the " + noun


def indefinite(words: str) -> str:
    """Put "a" or "an" before `words`.

    >>> indefinite("old lamp")
    'an old lamp'
    """
    return ("an " if words[0] in "aeiou" else "a ") + words
