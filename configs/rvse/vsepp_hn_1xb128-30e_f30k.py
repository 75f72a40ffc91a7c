# RVSE++ Figure 1: VSE++ with hard negatives, Flickr30K. As released: Adam, 2e-4, decay by 10 at
# epoch 15, no augmentation; the mean of the BUTD regions replaces the one feature of an image.
_base_ = [
    './_base_/region_word.py',
    '../_base_/datasets/f30k_precomp.py',
    '../_base_/schedules/rvse_adam_30e.py',
    './_base_/runtime.py',
]
model = dict(
    image_encoder=dict(pool=dict(type='MeanPool')),
    text_encoder=dict(bidirectional=False, pool=dict(type='LastPool')),
    similarity=dict(type='CosineSimilarity'),
)
