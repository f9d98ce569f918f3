"""Chapter 7: language models in practice."""

from ch07_practice.report import write_report

__all__ = ["write_report"]
