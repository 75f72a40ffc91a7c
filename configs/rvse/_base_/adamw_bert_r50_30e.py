# The image backbone's rate, too, is a tenth.
_base_ = './adamw_bert_30e.py'
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)}))
