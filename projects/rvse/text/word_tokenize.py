"""Word tokenization as in NLTK's ``word_tokenize``, without its downloads."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

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


@lru_cache(maxsize=1)
def _tokenizers() -> tuple[Callable[[str], list[str]], Callable[[str], list[str]]]:
    """Return functions that split a text into sentences, and a sentence into words."""
    from nltk.tokenize import NLTKWordTokenizer  # importing nltk takes a second
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    parameters = PunktParameters()
    parameters.abbrev_types = set(_ABBREVIATIONS)
    parameters.sent_starters = set(_STARTERS)
    return PunktSentenceTokenizer(parameters).tokenize, NLTKWordTokenizer().tokenize


def word_tokenize(text: str) -> list[str]:
    """Split a caption into words and punctuation marks, as in the Penn Treebank.

    Symbols and punctuation marks become separate words, except commas and colons within numbers,
    hyphens, and full stops within a sentence. Opening straight double quotes become two backticks,
    closing ones two apostrophes. ``'s``, ``n't`` and the like are split from their words. The case
    is preserved.

    The result equals that of NLTK's ``word_tokenize``, except possibly for sentence boundaries
    within the text: NLTK downloads the abbreviations that its Punkt algorithm knows, this function
    has a list of them.

    Example:
        >>> word_tokenize("A dog's ball, didn't it roll (far).")
        ['A', 'dog', "'s", 'ball', ',', 'did', "n't", 'it', 'roll', '(', 'far', ')', '.']
    """
    split_sentences, split_words = _tokenizers()
    return [word for sentence in split_sentences(text) for word in split_words(sentence)]
