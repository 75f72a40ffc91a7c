"""The tokenizer against transformers' own, and the vocabulary that is learnt."""

import random

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from projects.common.text import BERTTextEncoder, WordPieceTokenizer

SENTENCES = ['the red circle', 'the red star', 'a Café left of the red star', 'zebra']


def test_equals_transformers_on_the_bert_vocabulary(shared_data) -> None:
    path = shared_data / 'text/bert-base-uncased-vocab.txt'
    captions = (shared_data / 'text/flickr30k_test_caps.txt').read_text().splitlines()[:300]
    theirs = BertTokenizer(str(path))(
        captions, max_length=12, truncation=True, padding='max_length', return_tensors='pt'
    )
    ids, mask = WordPieceTokenizer.from_file(path)(captions, max_length=12)
    assert ids.tolist() == theirs['input_ids'].tolist()
    assert mask.tolist() == theirs['attention_mask'].tolist()
    assert (mask.sum(1) == 12).any()  # some were cut


def test_learnt_vocabulary() -> None:
    tokenizer = WordPieceTokenizer.learn(SENTENCES, vocab_size=100)
    vocabulary = tokenizer.vocabulary
    words = {'the', 'red', 'circle', 'star', 'a', 'cafe', 'left', 'of', 'zebra'}
    characters = {c for word in words for c in word}
    assert set(vocabulary[5:]) == characters | {f'##{c}' for c in characters} | words
    by_count = [token for token in vocabulary if token in words and len(token) > 1]
    assert by_count[:3] == ['red', 'the', 'star']  # 3, 3 and 2 times; ties by alphabet
    ids, _ = tokenizer(['The cafés'], max_length=6)
    tokens = [vocabulary[i] for i in ids[0]]
    assert tokens == ['[CLS]', 'the', 'cafe', '##s', '[SEP]', '[PAD]']


def test_order_and_process_do_not_matter() -> None:
    shuffled = random.Random(0).sample(SENTENCES, len(SENTENCES))
    first, second = (WordPieceTokenizer.learn(s, 100).vocabulary for s in (SENTENCES, shuffled))
    assert first == second


def test_small_vocabularies_spell() -> None:
    characters = len(set(' '.join(SENTENCES).lower().replace('é', 'e')) - {' '})
    size = 5 + 2 * characters + 1
    tokenizer = WordPieceTokenizer.learn(SENTENCES, vocab_size=size)
    assert len(tokenizer) == size and tokenizer.vocabulary[-1] == 'red'
    with pytest.raises(ValueError, match='vocab_size 10: the sentences have'):
        WordPieceTokenizer.learn(SENTENCES, vocab_size=10)


@pytest.mark.parametrize(
    ('vocabulary', 'message'),
    [
        (['[PAD]', '[UNK]', '[CLS]', '[SEP]', 'red'], r"'\[MASK\]' is missing"),
        (['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'red', 'red'], 'only 6 different'),
    ],
)
def test_wrong_vocabulary(vocabulary, message, tmp_path) -> None:
    path = tmp_path / 'vocab.txt'
    path.write_text('\n'.join(vocabulary))
    with pytest.raises(ValueError, match=message) as error:
        WordPieceTokenizer.from_file(path)
    assert str(path) in str(error.value)


def test_saved_vocabulary_is_read_back(tmp_path) -> None:
    tokenizer = WordPieceTokenizer.learn(SENTENCES, 100)
    tokenizer.save(tmp_path / 'vocab.txt')
    assert WordPieceTokenizer.from_file(tmp_path / 'vocab.txt').vocabulary == tokenizer.vocabulary


def test_bert_of_a_folder(tmp_path) -> None:
    """Weights, vocabulary and features are those of transformers' own classes."""
    vocabulary = WordPieceTokenizer.learn(SENTENCES, vocab_size=100)
    vocabulary.save(tmp_path / 'vocab.txt')
    config = BertConfig(
        vocab_size=100, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32,
    )  # fmt: skip
    theirs = BertModel(config).eval()
    theirs.save_pretrained(tmp_path)
    tokenizer = BertTokenizer(str(tmp_path / 'vocab.txt'))
    tokenizer.save_pretrained(tmp_path)
    ours = BERTTextEncoder(pretrained=str(tmp_path), max_tokens=8).eval()
    assert ours.out_channels == 16
    assert ours.tokenizer.vocabulary == vocabulary.vocabulary
    ids, mask = ours.tokenize(['the red star', 'zebra'])
    batch = tokenizer(
        ['the red star', 'zebra'], max_length=8, padding='max_length', return_tensors='pt'
    )
    assert ids.tolist() == batch['input_ids'].tolist()
    with torch.no_grad():
        expected = theirs(**batch).last_hidden_state
        torch.testing.assert_close(ours(ids, mask), expected)


def test_no_bert_in_a_folder(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match='no folder'):
        BERTTextEncoder(pretrained=str(tmp_path / 'a' / 'b'))
    with pytest.raises(ValueError, match='neither a folder with BERT weights'):
        BERTTextEncoder(pretrained=str(tmp_path))
