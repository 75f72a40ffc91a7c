# PLVL Tables 1 and 2, pre-trained setting, step 2 on 8 GPUs x 20 as in the released code; the paper
# says 4 x 20 with the same learning rates.
_base_ = './plvl_vit-b_4xb20-150e_mixed-coco.py'
auto_scale_lr = dict(base_batch_size=160)
