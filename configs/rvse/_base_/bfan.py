# BFAN (equal): SCAN's attention in both directions, on the fragments that matter. The other
# variant has focus='prob'.
_base_ = './region_word.py'
model = dict(similarity=dict(type='BFANSimilarity', focus='equal'))
