# RVSE++ Figure 6, epsilon 1e-3: RVSE (MLP), COCO (the paper sweeps Flickr30K)
_base_ = [
    '../_base_/rvse_mlp.py',
    '../../_base_/datasets/coco_precomp.py',
    '../../_base_/schedules/rvse_adamw_20e.py',
    '../_base_/runtime.py',
]
model = dict(text_encoder=dict(vocab_size=11354), loss=dict(eps=1e-3))
