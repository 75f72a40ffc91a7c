# RVSE++ Table 7, row 13, and half of Table 2, row 5, Table 4, row 6, Table 5, row 8, and Table 7,
# row 17: SAF of SGRAF, Flickr30K
_base_ = './scan-t2i-avg_hn_1xb128-30e_f30k.py'
model = dict(
    text_encoder=dict(word_dropout=0.4), similarity=dict(_delete_=True, type='SAFSimilarity')
)
train_cfg = dict(max_epochs=30)
param_scheduler = [dict(type='MultiStepLR', milestones=[20], gamma=0.1, by_epoch=True)]
