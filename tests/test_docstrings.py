"""Every docstring of a function, a method or a class opens with a verb."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Words that a sentence of the wrong kind opens with: noun phrases, relative clauses, conditions.
NO_VERBS = {
    'a', 'all', 'an', 'any', 'args', 'as', 'at', 'both', 'by', 'each', 'either', 'every', 'for',
    'from', 'given', 'how', 'if', 'in', 'it', 'its', 'like', 'neither', 'no', 'of', 'on', 'one',
    'only', 'our', 'returns', 'same', 'see', 'some', 'such', 'that', 'the', 'there', 'these',
    'this', 'to', 'two', 'what', 'when', 'where', 'whether', 'which', 'while', 'who', 'whose',
    'why', 'with', 'without',
}  # fmt: skip


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Line and first line of the docstring of every function and class."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            text = ast.get_docstring(node)
            if text is not None:
                yield node.lineno, text.splitlines()[0]


IMPERATIVES = {
    'Alias',
    'Bias',
    'Bring',
    'Embed',
    'Exceed',
    'Feed',
    'Need',
    'Proceed',
    'Seed',
    'Speed',
}


def opens_with_a_verb(line: str) -> bool:
    """Whether the first word may be an imperative: capitalised, a plain word, no other form."""
    word = re.match(r'[A-Z][a-z]+(?=[ .,:]|$)', line)
    if word is None or word[0].lower() in NO_VERBS:
        return False
    return word[0] in IMPERATIVES or not re.search(r'[^su]s$|ing$|ed$', word[0])


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('Compute the loss (B,).', True),
        ('Process a batch.', True),
        ('Embed words.', True),
        ('Computes the loss.', False),
        ('The loss of an image.', False),
        ('What a loss reads.', False),
        ('(B, C) to (B, D).', False),
        ('``loss`` and statistics.', False),
        ('Where the data lies.', False),
    ],
)
def test_what_counts_as_a_verb(line, expected):
    assert opens_with_a_verb(line) == expected


@pytest.mark.parametrize('folder', ['common', 'plvl', 'pdsl', 'rvse', 'search_and_ground'])
def test_first_lines(folder):
    files = sorted((ROOT / 'projects' / folder).rglob('*.py'))
    found = [
        (path.relative_to(ROOT), number, line)
        for path in files
        for number, line in docstrings(path.read_text())
    ]
    assert found
    wrong = [
        f'{path}:{number}: {line}' for path, number, line in found if not opens_with_a_verb(line)
    ]
    assert not wrong, '\n'.join(wrong)
