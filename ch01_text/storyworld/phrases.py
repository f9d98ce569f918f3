"""How things are said: several phrasings for every kind of event.

In braces: {a} the actor (by name or he/she), {A} always by name, {b} {B} the other person, {x} the
thing, {ix} the thing as something new ("a red kite"), {c} the container, {p} the place, {at} being
there, {q} the place left behind, {he} {him} {his} the actor again, {because} a cause. No phrase and
no scenery names a person, a place or a thing of its own: what is named is what happened.
"""

from typing import NamedTuple

from ch01_text.storyworld.moods import MOODS


class Phrase(NamedTuple):
    """One phrasing: the template, the slots that name something in their order, the actor comes
    first.
    """

    text: str
    slots: tuple[str, ...]
    actor_first: bool


def _phrase(text: str) -> Phrase:
    """Read the slots of one template."""
    slots = [piece.split("}")[0] for piece in text.split("{")[1:]]
    naming = [{"ix": "x", "at": "p"}.get(slot, slot) for slot in slots]
    return Phrase(
        text, tuple(slot for slot in naming if slot in "aAbBxcpq"), text.startswith("{a}")
    )


EVENTS = {
    "start": (
        """
        {a} was {at}.
        {a} stood {at}.
        {a} was busy {at}.
        {a} sat quietly {at}.
        {a} was resting {at}.
        {a} could be found {at}.
        {a} was working {at}.
        {a} had gone to {p}."""
    ),
    "start_together": (
        """
        {a} and {B} were {at}.
        {a} and {B} sat together {at}.
        {a} was {at} with {b}.
        {a} and {B} were chatting {at}.
        {a} and {B} stood side by side {at}.
        {a} was helping {b} {at}."""
    ),
    "start_own": (
        """
        {a} was {at} with {ix}.
        {a} stood {at}, holding {ix}.
        {a} sat {at} and had {ix} with {him}.
        {a} was {at} and carried {ix}.
        {a} had come to {p} with {ix}.
        {a} waited {at} with {ix} in {his} hands."""
    ),
    "own": (
        """
        {a} had {ix}.
        {a} carried {ix}.
        {a} was holding {ix}.
        {a} held {ix} in {his} hands.
        {a} had brought {ix} from home.
        {a} was very proud of {ix} that {he} had with {him}."""
    ),
    "lie": (
        """
        {ix} lay {at}.
        There was {ix} {at}.
        Somebody had left {ix} {at}.
        {ix} had been left {at}.
        {ix} was lying {at}.
        Nobody had noticed {ix} {at}."""
    ),
    "missing": (
        """
        Nobody had seen {A} that day.
        No one knew where {A} was.
        {A} had not been seen all day.
        {A} was nowhere to be found."""
    ),
    "move": (
        """
        {a} walked to {p}.
        {a} went to {p}.
        {a} ran to {p}.
        {a} hurried to {p}.
        {a} strolled over to {p}.
        {a} made {his} way to {p}.
        {a} came to {p}.
        {a} wandered over to {p}.
        {a} arrived at {p}.
        {a} skipped all the way to {p}.
        {a} left {q} and walked to {p}.
        {a} went from {q} to {p}.
        {a} came to {p} from {q}.
        {a} reached {p}, far away from {q}.
        {a} was tired of {q} and went to {p}."""
    ),
    "carry": (
        """
        {a} carried {x} to {p}.
        {a} took {x} to {p}.
        {a} brought {x} to {p}.
        {a} walked to {p} with {x}.
        With {x} in {his} hands, {a} walked to {p}.
        Holding {x} tightly, {a} ran to {p}."""
    ),
    "together": (
        """
        {a} and {B} walked to {p} together.
        Together, {a} and {B} went to {p}.
        {a} took {b} along to {p}.
        {a} led {b} to {p}.
        {a} and {B} raced each other to {p}.
        {a} and {B} strolled to {p} side by side."""
    ),
    "join": (
        """
        {a} joined {b}.
        {a} walked over to {b}.
        {a} went to where {b} was.
        {a} paid {b} a visit.
        {a} came to sit with {b}.
        {a} looked for {b} and soon found {b_him}.
        {a} ran all the way to {b}.
        {a} went to keep {b} company."""
    ),
    "take": (
        """
        {a} picked up {x}.
        {a} took {x}.
        {a} bent down and picked up {x}.
        {a} gathered up {x}.
        {a} spotted {x} and took it.
        {a} grabbed {x}.
        {a} found {x} there and kept it.
        {a} tucked {x} under {his} arm."""
    ),
    "go_take": (
        """
        {a} went to {p} and picked up {x}.
        {a} walked to {p}, where {he} found {x}.
        {a} ran to {p} and took {x}.
        {a} came to {p} and gathered up {x}.
        {a} hurried to {p} to pick up {x}.
        {a} strolled to {p} and there took {x}."""
    ),
    "take_go": (
        """
        {a} picked up {x} and walked to {p}.
        {a} took {x} and ran to {p}.
        {a} grabbed {x} and hurried to {p}.
        {a} gathered up {x} and brought it to {p}.
        {a} found {x} and carried it to {p}.
        {a} slipped away to {p} with {x}."""
    ),
    "find": (
        """
        {a} found {x} {at}.
        {a} stumbled upon {x} {at}.
        What a surprise! {a} found {x} {at}.
        {a} looked around {at} and found {x}.
        {a} noticed {x} {at} and picked it up.
        {a} discovered {x} {at}."""
    ),
    "drop": (
        """
        {a} put {x} down.
        {a} left {x} there.
        {a} dropped {x}.
        {a} laid {x} on the ground.
        {a} was tired of {x} and put it down.
        {a} left {x} behind."""
    ),
    "drop_at": (
        """
        {a} left {x} {at}.
        {a} put {x} down {at}.
        {a} dropped {x} {at}.
        {a} laid {x} down {at}.
        {a} set {x} down {at}.
        {a} forgot {x} {at}."""
    ),
    "arrive": (
        """
        {a} put {x} down.
        {a} set {x} down.
        {a} laid {x} down.
        {a} left {x} there."""
    ),
    "go_drop": (
        """
        {a} went to {p} and left {x} there.
        {a} walked to {p} and put {x} down.
        {a} ran to {p} and dropped {x} there.
        {a} brought {x} to {p} and left it there.
        {a} hurried to {p} and laid {x} down.
        {a} took {x} to {p} and set it down."""
    ),
    "give": (
        """
        {a} gave {x} to {b}.
        {a} gave {b} {x}.
        {a} handed {b} {x}.
        {a} passed {x} to {b}.
        {a} let {b} have {x}.
        {B} got {x} from {A}.
        {B} was given {x} by {A}.
        {a} made {b} a present of {x}.
        "This is for you," said {A} and gave {b} {x}.
        "You may have it," said {A} and handed {x} to {b}."""
    ),
    "lose": (
        """
        Somehow, {a} lost {x}.
        {a} reached for {x}, but it was gone.
        {a} lost {x}, and nobody saw where it fell.
        Suddenly {a} noticed that {x} was gone.
        {a} looked for {x} and could not find it anywhere.
        "Oh no!" cried {A}. "I have lost {x}!\""""
    ),
    "put": (
        """
        {a} put {x} into {c}.
        {a} placed {x} in {c}.
        {a} packed {x} into {c}.
        {a} hid {x} in {c}.
        {a} dropped {x} into {c}.
        {a} laid {x} carefully in {c}."""
    ),
    "take_out": (
        """
        {a} took {x} out of {c}.
        {a} pulled {x} out of {c}.
        {a} lifted {x} from {c}.
        {a} opened {c} and took out {x}.
        {a} reached into {c} and took {x}.
        {a} fished {x} out of {c}."""
    ),
}


def _lines(text: str) -> tuple[Phrase, ...]:
    return tuple(_phrase(line.strip()) for line in text.strip().split("\n"))


PHRASES = {key: _lines(text) for key, text in (EVENTS | MOODS).items()}
