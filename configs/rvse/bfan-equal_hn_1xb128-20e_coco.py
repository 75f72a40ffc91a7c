# RVSE++ half of Table 6, row 3, Table 8, row 1 (COCO 1K), Table 9, row 1, and Table 11, row 2
# (COCO 5K): BFAN (equal)
_base_ = './scan-t2i-avg_hn_1xb128-20e_coco.py'
model = dict(similarity=dict(_delete_=True, type='BFANSimilarity', focus='equal'))
param_scheduler = [dict(type='MultiStepLR', milestones=[15], gamma=0.1, by_epoch=True)]
