# RVSE++ Table 8, row 2 (COCO 1K), and Table 9, row 2 (COCO 5K), half: BFAN (equal) with SelHN
_base_ = './bfan-equal_hn_1xb128-20e_coco.py'
model = dict(loss=dict(_delete_=True, type='SelHNLoss', margin=0.2, eps=0.01))
