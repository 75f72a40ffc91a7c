"""The options and the results of a preflight."""

from __future__ import annotations

from dataclasses import dataclass, field

from .findings import Findings
from .recipe import Group
from .terms import Term

__all__ = ['Options', 'Report']


@dataclass
class Options:
    """Hold the options of a preflight.

    Attributes:
        steps: Number of steps to run.
        images: Folder of images for made-up labels if the config's own data is missing.
        like_pretrained: Target mean and standard deviation of the backbone's features. None leaves
            the features unchanged.
        batch_size: Batch size that replaces the config's.
        image_scale: Factor for the sizes of resizing and cropping transforms.
        validate: Whether to validate on a few samples to get the names of the metrics.
        seed: Random seed.
    """

    steps: int = 10
    images: str | None = None
    like_pretrained: tuple[float, float] | None = None
    batch_size: int | None = None
    image_scale: float = 1.0
    validate: bool = True
    seed: int = 0


@dataclass
class Report:
    """Hold the results of a preflight.

    Attributes:
        name: Name of the config.
        findings: Failures, warnings and notes.
        terms: Loss terms on the first batch.
        totals: Sum of the terms at every step.
        again: Sum of the terms on the first batch after the last step.
        parts: For each part of the model: its name, number of elements, number of trained elements
            and gradient norm.
        groups: Parameter groups of the optimizer.
        kept: Description of the kept checkpoints.
        classes: Classes of the data and the heads.
        weights: One line per loaded file of pretrained weights.
        step_seconds: Median duration of a step.
        memory: Peak memory of a step in bytes, of the GPU or of the process.
        steps_in_all: Number of steps in the whole schedule, or None if the size of the data set is
            unknown.
        batch_size: Batch size used here, and that of the config.
    """

    name: str
    findings: Findings = field(default_factory=Findings)
    terms: list[Term] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)
    again: float | None = None
    parts: list[tuple[str, int, int, float]] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    kept: str = ''
    classes: str = ''
    weights: list[str] = field(default_factory=list)
    step_seconds: float = 0.0
    memory: int = 0
    steps_in_all: int | None = None
    batch_size: tuple[int, int] = (0, 0)

    @property
    def first(self) -> float:
        """Return the sum of the terms on the first batch, before any step."""
        return sum(term.value for term in self.terms)

    @property
    def mines(self) -> bool:
        """Return whether the model creates labels or weights of some terms itself."""
        return any(term.mined for term in self.terms)

    @property
    def given(self) -> tuple[float, float]:
        """Return the sum of the terms with labels from the data, on the first batch.

        The two values are those before the first and after the last step.
        """
        terms = [term for term in self.terms if term.mined is None]
        return sum(term.value for term in terms), sum(term.later_value or 0.0 for term in terms)
