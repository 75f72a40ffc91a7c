# PLVL section 4.1, row 1 of Table 5: of the backbone, self-attention and FFN learn with 1e-5, the
# cross-attention and adapters, part of "the rest of the model", with 2.5e-5.
# The longest key that fits counts: 'adapter' would lose to 'backbone'.
_base_ = '../plvl_vit-b_4xb20-150e_refcocog-umd.py'
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={'.cross_attn.': dict(lr_mult=1.0), '.adapter.': dict(lr_mult=1.0)}
    )
)
