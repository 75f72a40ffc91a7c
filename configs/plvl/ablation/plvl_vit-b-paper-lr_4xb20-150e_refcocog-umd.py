# PLVL section 4.1, row 1 of Table 5: the backbone's self-attention and FFN learn with 1e-5, its
# cross-attention and adapters, part of "the rest of the model", with 2.5e-5.
# The longest matching key counts: 'adapter' would lose to 'backbone'.
_base_ = [
    '../_base_/plvl_vit-b.py',
    '../../_base_/datasets/refcocog-umd_448.py',
    '../../_base_/schedules/plvl_150e.py',
    '../_base_/runtime.py',
]
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={'.cross_attn.': dict(lr_mult=1.0), '.adapter.': dict(lr_mult=1.0)}
    )
)
