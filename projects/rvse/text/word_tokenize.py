"""Offline word tokenization that follows the Penn Treebank and NLTK's ``word_tokenize``."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ['word_tokenize']

# Words after which a full stop does not end a sentence.
_ABBREVIATIONS = frozenset(
    """
    adm al apr ariz aug ave bros calif capt cf co col colo conn corp ct dec dept dr e.g etc feb
    fla ft ga gen gov i.e inc jan jr kan ky lt ltd maj md mich minn mo mont mr mrs ms mt n.j n.y
    n.c nov oct okla ore ph.d pres prof rep rev sen sep sept sgt sr st tenn tex u.k u.n u.s va
    vs vt wis d.c a.m p.m
    """.split()  # noqa: SIM905
)
# After an abbreviation, these words still start a sentence if they are capitalised.
_STARTERS = frozenset(
    """
    a an another both but each even he his however i if in it most one several she some such the
    their there these they this those two three while
    """.split()  # noqa: SIM905
)
_SENTENCE_END = re.compile(r'(?<!\S)(\S*?)([.?!]+)(["\')\]}]*)(\s+)(?:(["\')\]}]+)(\s+))?(?=\S)')
# The final full stop; a double quote after a space opens a quotation.
_FINAL_STOP = re.compile(r"""(?<!\.)\.(?=(?:[\])}>'»”’\s]|(?<![\s(\[{<])")*$)""")

_SYMBOLS = r';@#$%&?!*()\[\]{}<>«»“”‘’„\u2012-\u2015'
_PIECE = re.compile(
    rf'--|\.{{2,}}|\'\'|"|`+|[{_SYMBOLS}]|[:,](?!\d)'
    rf'|(?:(?!--|\.\.|\'\')[^\s"`:,{_SYMBOLS}]|[:,](?=\d))+'
)
_CLITIC = re.compile(r"(?<=[^'])(?:'[sSmMdD]|'ll|'LL|'re|'RE|'ve|'VE|n't|N'T|')$")
_BEFORE_WORD = re.compile(r"'(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", re.IGNORECASE)
_JOINED = re.compile(
    r"\b(?:(can)(not)|(d)('ye)|(gim)(me)|(gon)(na)|(got)(ta)|(lem)(me)|(more)('n)|(wan)(na)$)"
    r'(?!\w)',
    re.IGNORECASE,
)


def word_tokenize(text: str) -> list[str]:
    """Split a caption into words and punctuation marks.

    Symbols and punctuation marks become separate words, except commas and colons within numbers,
    hyphens, and full stops within a sentence. Opening straight double quotes become two backticks,
    closing ones two apostrophes. ``'s``, ``n't`` and the like are split from their words. The case
    is preserved.

    The result equals that of NLTK's ``word_tokenize``, except possibly for sentence boundaries
    within the text: NLTK uses a statistical model (Punkt) to recognise abbreviations, this
    function a list.

    Example:
        >>> word_tokenize("A dog's ball, didn't it roll (far).")
        ['A', 'dog', "'s", 'ball', ',', 'did', "n't", 'it', 'roll', '(', 'far', ')', '.']
    """
    return [word for sentence in _sentences(text) for word in _words(sentence)]


def _sentences(text: str) -> Iterator[str]:
    start = 0
    for match in _SENTENCE_END.finditer(text):
        word, marks, _, _, more_closers, _ = match.groups()
        following = text[match.end() :].split(None, 1)[0]
        if _ends_sentence(word, marks, following):
            # A detached closing quote belongs to the sentence it closes.
            end = match.end() if more_closers else match.end(4)
            yield text[start:end].strip()
            start = end
    if text[start:].strip():
        yield text[start:].strip()


def _ends_sentence(word: str, marks: str, following: str) -> bool:
    if marks != '.':
        return '.' not in marks or not marks.endswith('..')
    word = word.lstrip('"\'([{<').lower()
    starts = following[0].isupper() and following.strip('.,"\'').lower() in _STARTERS
    if word in _ABBREVIATIONS or word.rsplit('-', 1)[-1] in _ABBREVIATIONS:
        return starts
    if len(word) == 1 and word.isalpha():  # an initial
        return starts
    if word.replace(',', '').replace('.', '').isdigit():  # an ordinal
        return not following[0].islower()
    return True


def _words(sentence: str) -> Iterator[str]:
    stop = _FINAL_STOP.search(sentence)
    if stop is None:
        yield from _pieces(sentence, 0, len(sentence))
        return
    yield from _pieces(sentence, 0, stop.start())
    yield '.'
    yield from _pieces(sentence, stop.end(), len(sentence))


def _pieces(sentence: str, start: int, end: int) -> Iterator[str]:
    for match in _PIECE.finditer(sentence, start, end):
        piece = match[0]
        if piece in ('"', "''"):
            before = sentence[: match.start()]
            opens = before[-1:] in tuple(' ([{<') if before else piece == '"'
            yield '``' if opens else "''"
        elif len(piece) == 1:
            yield piece
        else:
            yield from _split_word(piece, sentence[: match.start()][-1:])


def _split_word(word: str, before: str) -> Iterator[str]:
    """Split clitics and contractions from a word preceded by the character ``before``."""
    if not re.match(r'\w', before) and _BEFORE_WORD.match(word):
        yield "'"
        word = word[1:]
    clitic = _CLITIC.search(word)
    stem = word[: clitic.start()] if clitic else word
    joined = _JOINED.search(stem)
    if joined:
        first, second = (part for part in joined.groups() if part)
        parts = [stem[: joined.start()], first, second, stem[joined.end() :]]
        yield from (part for part in parts if part)
    elif stem:
        yield stem
    if clitic:
        yield clitic[0]
