# RVSE++ Table 3, row 2 (COCO 5K), and Table 10, row 2 (COCO 1K): VSE (FC) with HN
_base_ = './vse-fc_selhn_1xb128-20e_coco.py'
model = dict(loss=dict(_delete_=True, type='HardNegativeLoss', margin=0.2))
