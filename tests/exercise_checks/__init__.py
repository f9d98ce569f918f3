"""Checks of the exercises, a module a chapter. Each calls the function that it is given, and says
what went wrong in terms of the input; a module's CHECKS stand in the order of its chapter's
exercises.
"""

from exercise_checks import appendix_a, appendix_b, ch01, ch02, ch03, ch04, ch05, ch06, ch07

CHECKS = {
    "ch01_text": ch01.CHECKS,
    "ch02_attention": ch02.CHECKS,
    "ch03_gpt": ch03.CHECKS,
    "ch04_pretraining": ch04.CHECKS,
    "ch05_classification": ch05.CHECKS,
    "ch06_instruction": ch06.CHECKS,
    "ch07_practice": ch07.CHECKS,
    "appendix_a": appendix_a.CHECKS,
    "appendix_b": appendix_b.CHECKS,
}
