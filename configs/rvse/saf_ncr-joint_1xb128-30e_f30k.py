# Two SAF networks with NCR that step together, Flickr30K. Not in the paper.
_base_ = './sgr_ncr-joint_1xb128-40e_f30k.py'
model = dict(matcher=dict(similarity=dict(_delete_=True, type='SAFSimilarity')))
train_cfg = dict(max_epochs=30)
param_scheduler = [dict(type='MultiStepLR', milestones=[20], gamma=0.1, by_epoch=True)]
