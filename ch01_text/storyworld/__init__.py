"""A village that writes short stories with true state, and asks about them.

Read in this order: `words`, `world` (the state), `phrases` (how events sound), `plot` (what
happens), `questions`, `story`, `writer` (all together), `shortcuts` (the baselines).
"""

from ch01_text.storyworld.plot import Cast
from ch01_text.storyworld.questions import (
    KINDS,
    NOBODY,
    UNKNOWN,
    Question,
    draw_question,
    question_lines,
    small_questions,
    where_is,
    who_has,
)
from ch01_text.storyworld.shortcuts import (
    all_shortcuts,
    fit_bag_of_words,
    fit_majority,
    names_in,
    shortcut_answers,
    shortcut_table,
)
from ch01_text.storyworld.story import Story
from ch01_text.storyworld.words import held_out
from ch01_text.storyworld.world import Event, World
from ch01_text.storyworld.writer import LEVELS, stories, write_story

__all__ = [
    "KINDS",
    "LEVELS",
    "NOBODY",
    "UNKNOWN",
    "Cast",
    "Event",
    "Question",
    "Story",
    "World",
    "all_shortcuts",
    "draw_question",
    "fit_bag_of_words",
    "fit_majority",
    "held_out",
    "names_in",
    "question_lines",
    "shortcut_answers",
    "shortcut_table",
    "small_questions",
    "stories",
    "where_is",
    "who_has",
    "write_story",
]
