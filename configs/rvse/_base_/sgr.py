# SGR of SGRAF: a graph of similarity vectors reasons over the words.
_base_ = './region_word.py'
model = dict(text_encoder=dict(word_dropout=0.4), similarity=dict(type='SGRSimilarity'))
