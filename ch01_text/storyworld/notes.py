"""Notes: what a story tells about places and hands, one fact after the other, before the question is answered.

A small model that must answer at once has to do all steps in its few layers. Written down, each step is a short one:
turn the next event into a note, pick the newest notes that matter, say the answer (a scratchpad, Nye et al. 2021).
"""

from ch01_text.storyworld.questions import Question
from ch01_text.storyworld.story import Story
from ch01_text.storyworld.words import PRONOUNS
from ch01_text.storyworld.world import World

NOWHERE = "nowhere"
UNTOLD = "?"
NOTES, THOUGHT, ANSWER = "Notes:", "So:", "A:"  # how lines begin
UNNOTED = ("why", "wants")  # questions whose answers no note has
Note = tuple[str, str]  # (who or what, where or with whom), or (who, feeling)


class Notebook:
    """The notes on a story up to where a question is asked, and the world as it is then."""

    def __init__(self, story: Story, question: Question):
        told = len(story.told(question))
        self.world, self.notes = World(), []
        for event in story.events:
            if event.sentence >= told:
                break
            before = dict(self.world.where)
            self.world.apply(event)
            self.notes += [(entity, spot or NOWHERE) for entity, spot in self.world.where.items()
                           if before.get(entity) != spot]
            if event.verb == "feel":
                self.notes.append((event.actor, event.feeling))

    def newest(self, people: bool) -> list[Note]:
        """The newest note about everybody, or about every thing, in the order in which the story names them."""
        told = [entity for entity in dict(self.notes) if (entity in PRONOUNS) == people]
        return [(entity, self.world.where[entity] or NOWHERE) for entity in told]

    def chain(self, question: Question) -> list[Note]:
        """The notes that the answer follows from, as one thinks: the book is with Nora, Nora is at the lake."""
        world, kind = self.world, question.kind
        about = question.about[0] if question.about else ""
        if kind in ("feel", "why"):
            felt = world.feels.get(about)
            return [(about, felt.feeling if felt else UNTOLD)]
        if kind == "wants" or not about:
            return []
        if about not in world.where:
            return [(about, UNTOLD)]
        if kind == "before":
            visited = world.visited[about]
            after = question.text.removesuffix("?").split()[-1]
            return [(about, place) for place in visited[: visited.index(after) + 1]]
        if kind in ("what-has", "count", "inside"):
            return self.newest(people=False)
        if kind == "with":
            return self.newest(people=True)
        chain = [(about, world.where[about] or NOWHERE)]
        if kind in ("where-object", "who-has"):
            while (spot := chain[-1][1]) in world.where and not (kind == "who-has" and spot in PRONOUNS):
                chain.append((spot, world.where[spot] or NOWHERE))
        return chain


def write_notes(notes: list[Note]) -> str:
    """The notes on one line.

    >>> write_notes([("Nora", "lake"), ("book", "Nora")])
    'Nora: lake; book: Nora;'
    """
    return " ".join(f"{entity}: {spot};" for entity, spot in notes)


def reasoning(story: Story, question: Question) -> tuple[str, str]:
    """What comes before the answer: a line of all notes; and one of those that it follows from, with the answer's
    mark on the next line."""
    notebook = Notebook(story, question)
    chain = notebook.chain(question)
    thought = f"{THOUGHT} {write_notes(chain)}\n" if chain else ""
    return f"{NOTES} {write_notes(notebook.notes)}\n", f"{thought}{ANSWER} "


def final_answer(response: str) -> str:
    """What a response says in the end, without its notes.

    >>> final_answer("Notes: Nora: lake;\\nSo: Nora: lake;\\nA: the lake")
    'the lake'
    >>> final_answer("the lake")
    'the lake'
    """
    return response.strip().rpartition("\n")[2].removeprefix(ANSWER).strip()
