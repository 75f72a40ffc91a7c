"""The findings of a recipe check."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ['Findings']


@dataclass
class Findings:
    """Collect the failures, warnings and notes of a recipe check.

    Attributes:
        failures: Problems that make the verdict negative.
        warnings: Possible problems that do not affect the verdict.
        notes: Assumptions, and checks that were skipped.
    """

    failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def fail(self, text: str) -> None:
        """Add a failure."""
        self.failures.append(text)

    def warn(self, text: str) -> None:
        """Add a warning."""
        self.warnings.append(text)

    def note(self, text: str) -> None:
        """Add a note."""
        self.notes.append(text)

    @property
    def passed(self) -> bool:
        """Return whether there are no failures."""
        return not self.failures
