# RVSE++ Tables 2 and 5, row 1, and Table 7, row 5, the other half: SCAN i2t LSE, whose mean with
# t2i AVG is its authors' best on Flickr30K
_base_ = [
    './_base_/scan.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adam_30e.py',
    './_base_/runtime.py',
]
model = dict(similarity=dict(direction='i2t', aggregation='LSE'))
