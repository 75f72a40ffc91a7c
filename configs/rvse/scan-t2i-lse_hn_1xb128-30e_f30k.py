# SCAN t2i LSE, Flickr30K. Not in the paper.
_base_ = './scan-t2i-avg_hn_1xb128-30e_f30k.py'
model = dict(similarity=dict(aggregation='LSE'))
