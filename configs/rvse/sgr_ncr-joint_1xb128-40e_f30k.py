# Train two SGR networks with NCR that step together, Flickr30K. The warm-up is within the 40
# epochs. Not in the paper.
_base_ = [
    './_base_/ncr.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adam_40e.py',
    './_base_/runtime.py',
]
