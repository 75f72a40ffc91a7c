# plvl_vit-b.py as the released code trains it: one sigmoid too many in the mask's focal loss, and
# a centre that rounds to the far edge has no positive cell.
_base_ = './plvl_vit-b.py'
model = dict(
    head=dict(
        clamp_center=False,
        loss_mask=dict(_delete_=True, type='DoubleSigmoidFocalLoss'),
    )
)
