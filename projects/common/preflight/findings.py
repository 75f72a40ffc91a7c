"""What a check of a recipe has to say."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ['Findings']


@dataclass
class Findings:
    """Collect what is wrong with a recipe, what may be, and facts.

    Attributes:
        failures: Each makes the verdict negative.
        warnings: Worth a look, and no failure.
        notes: What was assumed or left out.
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
        """Whether there is no failure."""
        return not self.failures
