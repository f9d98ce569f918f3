"""A village that writes short stories with true state, and asks about them."""

from ch01_text.storyworld.story import LEVELS, Level, Story, question_lines
from ch01_text.storyworld.writer import stories, write_story

__all__ = ["LEVELS", "Level", "Story", "question_lines", "stories", "write_story"]
