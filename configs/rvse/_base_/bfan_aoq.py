# BFAN (equal) with AOQ as released: the losses of a batch and of negatives mined offline.
# A trained VSRN mines in the released code. RVSE_AOQ_CANDIDATES: the folder of its released files
# i2t_f30k.npy and t2i_f30k.npy. Without it VSE (FC) with hard negatives mines, which like VSRN has
# one embedding per image and about the same recalls. RVSE_AOQ_MINER: its checkpoint.
import os

_base_ = './region_word.py'
model = dict(
    type='OfflineNegativesMatcher',
    similarity=dict(type='BFANSimilarity', focus='equal'),
    loss=dict(_delete_=True, type='AOQLoss', margin=0.2),
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(
        type='OfflineMiningHook',
        top_captions=300,
        top_images=60,
        miner=dict(
            candidates=[
                os.path.join(os.environ['RVSE_AOQ_CANDIDATES'], f'{way}_f30k.npy')
                for way in ('i2t', 't2i')
            ]
        )
        if 'RVSE_AOQ_CANDIDATES' in os.environ
        else dict(
            config='vse-fc_hn_1xb128-20e_f30k',
            checkpoint=os.environ.get(
                'RVSE_AOQ_MINER', 'work_dirs/vse-fc_hn_1xb128-20e_f30k/epoch_20.pth'
            ),
        ),
    ),
]
