# PLVL Table 5, row 2: L_det alone (REC)
_base_ = '../plvl_vit-b_4xb20-150e_refcocog-umd.py'
model = dict(head=dict(groups=(('center',), ('offset', 'size'))))
default_hooks = dict(checkpoint=dict(save_best='grounding/rec_acc50'))
