"""Words as nltk splits them, and the vocabulary of the released layout."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from projects.rvse.text import Vocabulary, word_tokenize

# Digests from nltk 3.10.4: another release must not change the words, which are keys of weights.
NLTK_CASED = 'aa521bac571f744bd426d38cd331114da6f469abf9139c143581d47bbd969e19'
NLTK_LOWER = 'eb25891f56dd25e004e6dc57afbffbd7fe67b622ecfd5fa42f57a24a8ca0973d'
NLTK_WORDS, NLTK_TYPES, NLTK_TYPES_4 = 67_713, 4_266, 1_342


@pytest.fixture(scope='module')
def captions(shared_data: Path) -> list[str]:
    return (shared_data / 'text' / 'flickr30k_test_caps.txt').read_text('utf-8').splitlines()


@pytest.mark.parametrize('lower, expected', [(False, NLTK_CASED), (True, NLTK_LOWER)])
def test_words_of_real_captions(captions, lower, expected):
    assert len(captions) == 5000
    lines = [' '.join(word_tokenize(c.lower() if lower else c)) for c in captions]
    assert hashlib.sha256('\n'.join(lines).encode()).hexdigest() == expected


@pytest.mark.parametrize(
    'text, words',
    [
        ("Don't, I'd've; dogs' cat's.", "Do n't , I'd 've ; dogs ' cat 's ."),
        ('"Hi," he said.', "`` Hi , '' he said ."),
        ('a box (small) -- $3.88, 1,000 at 5:30', 'a box ( small ) -- $ 3.88 , 1,000 at 5:30'),
        ('One man. He runs... really?!', 'One man . He runs ... really ? !'),
        ('St. Patrick at 5 p.m. by car', 'St. Patrick at 5 p.m. by car'),
        ("I cannot, gonna 'tis rock 'n' roll", "I can not , gon na ' tis rock 'n ' roll"),
        ('“smart” quotes — dash', '“ smart ” quotes — dash'),
        ('', ''),
        ('   ', ''),
        ('.', '.'),
    ],
)
def test_words(text, words):
    assert word_tokenize(text) == words.split()


def test_vocabulary_counts(captions):
    counts = Counter(word for caption in captions for word in word_tokenize(caption.lower()))
    assert (sum(counts.values()), len(counts)) == (NLTK_WORDS, NLTK_TYPES)
    vocabulary = Vocabulary.build(captions, min_count=4)
    assert len(vocabulary) == NLTK_TYPES_4 + 4
    assert vocabulary.words[:5] == ['<pad>', '<start>', '<end>', '<unk>', 'a']
    assert Vocabulary.build(reversed(captions)).words == vocabulary.words
    assert vocabulary.mask_id == len(vocabulary)


def test_vocabulary_round_trip(tmp_path):
    vocabulary = Vocabulary.build(['a dog runs', 'a dog'], min_count=2)
    vocabulary.save(tmp_path / 'vocab.json')
    content = json.loads((tmp_path / 'vocab.json').read_text())
    assert content == {
        'word2idx': {'<pad>': 0, '<start>': 1, '<end>': 2, '<unk>': 3, 'a': 4, 'dog': 5},
        'idx2word': {
            '0': '<pad>',
            '1': '<start>',
            '2': '<end>',
            '3': '<unk>',
            '4': 'a',
            '5': 'dog',
        },
        'idx': 6,
    }
    again = Vocabulary.from_file(tmp_path / 'vocab.json')
    ids, lengths = again(['A dog sleeps', 'a'])
    assert ids.tolist() == [[1, 4, 5, 3, 2], [1, 4, 2, 0, 0]]
    assert lengths.tolist() == [5, 3]


@pytest.mark.parametrize(
    'content, message',
    [
        ('[]', "expected json with 'word2idx'"),
        ('{"word2idx": {"<pad>": 0, "<start>": 1, "<end>": 2, "<unk>": 5}}', 'not 0 to 3'),
        ('{"word2idx": {"a": 0, "b": 1}}', 'it begins with'),
    ],
)
def test_bad_vocabulary_is_named(tmp_path, content, message):
    (tmp_path / 'v.json').write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        Vocabulary.from_file(tmp_path / 'v.json')
    assert str(tmp_path / 'v.json') in str(error.value)
    with pytest.raises(FileNotFoundError, match='no such vocabulary'):
        Vocabulary.from_file(tmp_path / 'absent.json')
