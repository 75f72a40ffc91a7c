# RVSE++ half of Table 6, row 8, Table 8, row 3 (COCO 1K), Table 9, row 3, and Table 11, row 5
# (COCO 5K): SAF of SGRAF
_base_ = './scan-t2i-avg_hn_1xb128-20e_coco.py'
model = dict(
    text_encoder=dict(word_dropout=0.4), similarity=dict(_delete_=True, type='SAFSimilarity')
)
optim_wrapper = dict(optimizer=dict(lr=2e-4))
