# PDSL Table 1: without L_ACL
_base_ = '../pdsl_r18_4xb1-100k_voc12.py'
model = dict(roi_head=dict(loss_correlation=None))
