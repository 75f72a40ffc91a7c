# rvse_adamw_bert_30e.py with a tenth of the rate for the image backbone, too.
_base_ = './rvse_adamw_bert_30e.py'
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)}))
