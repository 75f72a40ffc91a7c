# PDSL Figure 3: parallel learning, AP every 2,000 iterations
_base_ = [
    '../_base_/pdsl_r18.py',
    '../../_base_/datasets/voc2012_tags.py',
    '../../_base_/schedules/pdsl_sgd_100k.py',
    '../_base_/runtime_iters.py',
]
train_cfg = dict(val_interval=2000)
