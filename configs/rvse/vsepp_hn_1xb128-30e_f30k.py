# RVSE++ Figure 1: VSE++ with hard negatives, Flickr30K. As released: Adam, 2e-4, decay by 10 at
# epoch 15, no augmentation; the mean of the BUTD regions stands for the one feature an image has.
_base_ = './scan-t2i-avg_hn_1xb128-30e_f30k.py'
model = dict(
    image_encoder=dict(pool=dict(type='MeanPool')),
    text_encoder=dict(bidirectional=False, pool=dict(type='LastPool')),
    similarity=dict(_delete_=True, type='CosineSimilarity'),
)
