# RVSE++ Table 6, row 1, and Table 11, row 1, the other half: SCAN i2t LSE, COCO
_base_ = './scan-t2i-avg_hn_1xb128-20e_coco.py'
model = dict(similarity=dict(direction='i2t', aggregation='LSE', lambda_lse=20.0))
