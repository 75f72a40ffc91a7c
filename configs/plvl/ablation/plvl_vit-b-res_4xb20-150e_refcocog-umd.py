# PLVL Table 5, row 3: L_seg alone (RES)
_base_ = '../plvl_vit-b_4xb20-150e_refcocog-umd.py'
model = dict(head=dict(groups=(('mask',),)))
