# RVSE++ Table 3, row 3 (COCO 5K), and Table 10, row 3 (COCO 1K): VSE (FC) with SHN
_base_ = './vse-fc_selhn_1xb128-20e_coco.py'
model = dict(loss=dict(_delete_=True, type='SemiHardNegativeLoss', margin=0.2))
