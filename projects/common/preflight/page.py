"""Format a preflight report as a page, or as a row in a table of several reports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from .report import Report
from .terms import Term

__all__ = ['TABLE_HEAD', 'page', 'table_row']

TABLE_HEAD = (
    '| config | batch | first loss (chance) | after the steps | smallest share of the gradient | '
    'last learning rate | verdict |\n|---|---|---|---|---|---|---|\n'
)


def page(report: Report) -> str:
    """Format the report as one page of text."""
    lines = [f'Preflight of {report.name}', '']
    lines += ['Loss terms on the first batch']
    lines += _columns(
        [('term', 'value', 'by chance', 'of the sum', 'gradient', 'of the gradient')]
        + [
            (
                term.name,
                f'{term.value:.4g}',
                '-' if term.chance is None else f'{term.chance:.4g}',
                f'{term.share:.1%}',
                f'{term.gradient:.3g}',
                _share(term),
            )
            for term in report.terms
        ]
    )
    batch, own = report.batch_size
    shown = f'{batch}' + (f' (the config has {own})' if batch != own else '')
    lines += ['', f'{len(report.totals)} steps, batch size {shown}: sum of the loss terms']
    lines += ['  ' + '  '.join(f'{total:.4g}' for total in report.totals)]
    if report.again is not None:
        lines += [
            f'  the first batch: {report.first:.4g} before, {report.again:.4g} after these steps'
        ]
        if report.mines:
            lines[-1] += '; {:.4g} and {:.4g} without the terms that are mined'.format(
                *report.given
            )
    lines += ['', 'Parts of the model']
    lines += _columns(
        [('part', 'parameters', 'trained', "gradient's norm")]
        + [
            (part, _millions(number), _millions(trained), f'{norm:.3g}')
            for part, number, trained, norm in report.parts
        ]
    )
    lines += ['', 'Learning rate at the first, middle and last step of the schedule']
    lines += _columns(
        [
            (*(f'{rate:.3g}' for rate in group.rates), _millions(group.parameters), group.name)
            for group in report.groups
        ]
    )
    lines += ['', f'Kept: {report.kept or "not looked at"}', f'Classes: {report.classes}']
    for index, line in enumerate(report.weights or ['none given']):
        lines.append(f'{"Pretrained weights: " if not index else "  "}{line}')
    lines.append(
        f'A step: {report.step_seconds:.1f} s and {report.memory / 2**30:.1f} GiB at the peak'
        f'; the whole run on this machine: {_length(report)}'
    )
    for title, texts in (
        ('Notes', report.findings.notes),
        ('Warnings', report.findings.warnings),
        ('Failures', report.findings.failures),
    ):
        if texts:
            lines += ['', title, *(f'  - {text}' for text in texts)]
    verdict = (
        'this recipe is going to learn'
        if report.findings.passed
        else (f'do not train yet: {len(report.findings.failures)} failure(s)')
    )
    return '\n'.join([*lines, '', f'Verdict: {verdict}'])


def table_row(report: Report) -> str:
    """Format the report as a row of a Markdown table."""
    first = '; '.join(
        f'{term.name.removeprefix("loss_")} {term.value:.3g}'
        + ('' if term.chance is None else f' ({term.chance:.3g})')
        for term in report.terms
    )
    smallest = min(
        report.terms,
        key=lambda term: max(term.gradient_share, term.later_share or 0.0),
        default=None,
    )
    share = '-' if smallest is None else f'{smallest.name.removeprefix("loss_")} {_share(smallest)}'
    batch, own = report.batch_size
    rates = ', '.join(dict.fromkeys(f'{group.rates[2]:.3g}' for group in report.groups))
    after = '-' if report.again is None else f'{report.first:.4g} to {report.again:.4g}'
    if report.again is not None and report.mines:
        after += ', given labels {:.4g} to {:.4g}'.format(*report.given)
    verdict = 'pass' if report.findings.passed else '; '.join(report.findings.failures)
    cells = (
        f'`{report.name}`',
        f'{batch}' if batch == own else f'{batch} of {own}',
        first,
        after,
        share,
        rates,
        verdict,
    )
    return '| ' + ' | '.join(cell.replace('|', '/') for cell in cells) + ' |\n'


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    if not rows:
        return ['  none']
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        '  ' + '  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
        for row in rows
    ]


def _share(term: Term) -> str:
    shown = (
        f'{term.gradient_share:.1%}'
        if term.gradient_share >= 1e-3
        else (f'{term.gradient_share:.1e}')
    )
    return shown if term.later_share is None else f'{shown}, later {term.later_share:.1e}'


def _millions(number: int) -> str:
    return f'{number / 1e6:.2f} M'


def _length(report: Report) -> str:
    batch, own = report.batch_size
    if report.steps_in_all is None:
        return 'unknown without its data'
    seconds = report.step_seconds * report.steps_in_all * max(own / max(batch, 1), 1)
    shown = str(timedelta(seconds=round(seconds)))
    return f'{shown} for {report.steps_in_all:,} steps in one process'
