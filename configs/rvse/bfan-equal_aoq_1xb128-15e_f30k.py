# RVSE++ Table 4, row 3, half: BFAN (equal) with AOQ as released, Flickr30K. From scratch, decay by
# 10 at epoch 10.
# A trained VSRN mines in the released code. RVSE_AOQ_CANDIDATES: the folder of its released files
# i2t_f30k.npy and t2i_f30k.npy. Without it VSE (FC) with hard negatives, which like VSRN has one
# embedding an image and about its recalls, mines; RVSE_AOQ_MINER: its checkpoint.
import os

_base_ = './bfan-equal_hn_1xb128-15e_f30k.py'
model = dict(type='OfflineNegativesMatcher', loss=dict(_delete_=True, type='AOQLoss', margin=0.2))
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='OfflineNegativesDataset',
        dataset=_base_.train_dataloader.dataset,
    ),
    collate_fn=dict(type='pairs_then_negatives'),
)
param_scheduler = [dict(type='MultiStepLR', milestones=[10], gamma=0.1, by_epoch=True)]
custom_hooks = [
    dict(type='BuildVocabularyHook', min_count=4),
    dict(type='GradientNormHook'),
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
