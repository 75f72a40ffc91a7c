# SCAN t2i AVG: each word attends to the regions, and the mean over the words is the score.
_base_ = './region_word.py'
model = dict(similarity=dict(type='SCANSimilarity', direction='t2i', aggregation='AVG'))
