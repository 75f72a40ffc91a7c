# SAF of SGRAF: an attention filter weighs the similarity vectors of the words.
_base_ = './region_word.py'
model = dict(text_encoder=dict(word_dropout=0.4), similarity=dict(type='SAFSimilarity'))
