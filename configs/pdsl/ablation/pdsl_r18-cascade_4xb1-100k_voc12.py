# PDSL Figure 3: cascade learning, AP each 2,000 iterations
_base_ = '../pdsl_r18_4xb1-100k_voc12.py'
model = dict(learning='cascade', cue=None)
train_cfg = dict(val_interval=2000)
