"""A village that writes short stories with true state, and asks about them."""

from ch01_text.storyworld.levels import LEVELS, Level
from ch01_text.storyworld.plain import plain_texts
from ch01_text.storyworld.questions import KINDS, MAIN_KINDS, UNKNOWN, Question
from ch01_text.storyworld.shortcuts import (
    fit_bag_of_words,
    fit_majority,
    shortcut_answers,
    shortcut_table,
)
from ch01_text.storyworld.steps import small_questions
from ch01_text.storyworld.story import Story, question_lines
from ch01_text.storyworld.words import held_out
from ch01_text.storyworld.world import Event
from ch01_text.storyworld.writer import stories, write_story

__all__ = [
    "KINDS",
    "LEVELS",
    "MAIN_KINDS",
    "UNKNOWN",
    "Event",
    "Level",
    "Question",
    "Story",
    "fit_bag_of_words",
    "fit_majority",
    "held_out",
    "plain_texts",
    "question_lines",
    "shortcut_answers",
    "shortcut_table",
    "small_questions",
    "stories",
    "write_story",
]
