"""Judge what was measured during the first training steps."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from .findings import Findings
from .report import Report
from .terms import Term

__all__ = ['loss_falls', 'judge', 'too_small']

LEAST_GRADIENT = 1e-4  # a term with a smaller share of the gradient is not learned
MOST_OF_CHANCE = 5.0  # a term that starts above this multiple of its chance value starts wrong
LEAST_SHARE = 0.05  # share of the sum above which a wrong start is a failure


def too_small(term: Term) -> bool:
    """Return whether a term is not learned; a late term only needs a nonzero gradient."""
    share = max(term.gradient_share, term.later_share or 0.0)
    return share < (LEAST_GRADIENT if term.late is None else sys.float_info.min)


def loss_falls(report: Report, one_batch: bool) -> bool:
    """Return whether the loss falls during the steps or at the end.

    If labels are mined during training, the loss may rise before it falls, because new labels add
    to it. In this case, the terms with labels from the data must fall, and the sum must stay within
    bounds.
    """
    totals, again, first = report.totals, report.again or 0.0, report.first
    if again < first:
        return True
    before, after = report.given
    if again > MOST_OF_CHANCE * first:
        return False
    if report.mines and after < before:
        return True
    if one_batch:
        return min(totals[len(totals) // 2 :]) < min(first, totals[0])
    third = max(len(totals) // 3, 1)
    early, late = (sorted(part)[third // 2] for part in (totals[:third], totals[-third:]))
    return again != first and late < 0.9 * early


def judge(report: Report, one_batch: bool, unreached: Sequence[str]) -> None:
    """Add what is wrong with the first steps to the findings of a report.

    Args:
        report: The report, with everything measured.
        one_batch: Whether all steps were taken on the same batch.
        unreached: Names of the trained parameters that never got a gradient.
    """
    findings = report.findings
    for term in report.terms:
        _judge_term(term, findings)
    _judge_totals(report, one_batch)
    small = [
        term
        for term in report.terms
        if term.late is not None and term.gradient_share < LEAST_GRADIENT and not too_small(term)
    ]
    if small:
        findings.note(
            f'{", ".join(term.name for term in small)}: less than {LEAST_GRADIENT:.0e} of the '
            'gradient at first, by design: ' + '; '.join(sorted({str(term.late) for term in small}))
        )
    if unreached:
        findings.warn(
            f'{len(unreached)} parameters got no gradient in {len(report.totals)} steps: '
            + ', '.join(unreached[:5])
            + (', ...' if len(unreached) > 5 else '')
        )


def _judge_term(term: Term, findings: Findings) -> None:
    if not math.isfinite(term.value) or not math.isfinite(term.gradient):
        findings.fail(f'{term.name} is {term.value} on the first batch, before any step')
        return
    if too_small(term):
        findings.fail(
            f'{term.name} has {term.gradient_share:.1e} of the gradient (its value is '
            f'{term.share:.1e} of the sum): it is not learnt from'
        )
    # A loss that is 0 when all similarities are equal, such as one with semi-hard negatives, has no
    # chance value to compare with.
    if term.chance and term.value > MOST_OF_CHANCE * abs(term.chance):
        text = (
            f'{term.name} starts at {term.value:.4g}, and predictions that know nothing give '
            f'{term.chance:.4g}: look at the start values of its last layer'
        )
        # A small box term may be near 0 by chance, which says nothing.
        (findings.fail if term.share > LEAST_SHARE else findings.warn)(text)


def _judge_totals(report: Report, one_batch: bool) -> None:
    findings = report.findings
    if not report.totals:
        findings.fail('no step was taken')
    elif not math.isfinite(report.totals[-1]):
        findings.fail(f'the loss is {report.totals[-1]} at step {len(report.totals)}')
    elif len(report.totals) > 1 and report.again is not None:
        if not math.isfinite(report.again):
            findings.fail(f'the loss of the first batch is {report.again} after the last step')
        elif not loss_falls(report, one_batch):
            text = (
                f'the loss does not fall: {report.first:.4g} on the first batch, '
                f'{report.again:.4g} on it after step {len(report.totals)}'
            )
            if report.mines:
                text += '; {:.4g} and {:.4g} without the terms that are mined'.format(*report.given)
            findings.fail(text)
