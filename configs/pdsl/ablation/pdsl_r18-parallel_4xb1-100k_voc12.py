# PDSL Figure 3: parallel learning, AP each 2,000 iterations
_base_ = '../pdsl_r18_4xb1-100k_voc12.py'
train_cfg = dict(val_interval=2000)
