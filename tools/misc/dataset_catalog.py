"""List the published data sets that the configs use, with their addresses and terms.

Where each address and checksum comes from:

- COCO: https://cocodataset.org/#download, which publishes no checksums.
- RefCOCO, RefCOCO+, RefCOCOg: https://github.com/lichengunc/refer. That server is often down; the
  second address is the copy in the Internet Archive.
- gRefCOCO: https://github.com/henghuiding/gRefCOCO, whose authors publish the files on the hub.
- Flickr30K Entities: https://github.com/BryanPlummer/flickr30k_entities
- VOC: http://host.robots.ox.ac.uk/pascal/VOC/; the checksums are those in
  `torchvision.datasets.voc`, as the organizers publish none.
- SBD: the address and checksum in `torchvision.datasets.sbd`, of the page
  http://home.bharathh.info/pubs/codes/SBD/download.html
- MCG: https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/mcg/
- Karpathy's splits: https://cs.stanford.edu/people/karpathy/deepimagesent/

Sizes are what these servers state; None where nobody does before the download.
"""

from pathlib import Path

from projects.common.downloads.published import PublishedFile, PublishedSet
from projects.common.errors import InputError
from projects.common.files.annotation_files import read_lines

COCO_TERMS = (
    'annotations: CC BY 4.0; images: the terms of Flickr and the licence that the annotation file '
    'names for each image (https://cocodataset.org/#termsofuse)'
)
VOC_TERMS = 'images from Flickr, under the terms of use of Flickr'
MCG_PAGE = 'https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/mcg/'
MCG_TERMS = 'no terms are stated for the precomputed proposals; see the page'


def _coco(path: str, size: int, *places: tuple[str, str], **options) -> PublishedFile:
    hosts = ('http://images.cocodataset.org', 'https://s3.amazonaws.com/images.cocodataset.org')
    return PublishedFile(tuple(f'{host}/{path}' for host in hosts), places, size, **options)


def _voc(path: str, size: int, md5: str, folder: str) -> PublishedFile:
    url = f'http://host.robots.ox.ac.uk/pascal/VOC/{path}'
    return PublishedFile((url,), ((folder, folder),), size, f'md5:{md5}', images=True)


def _mcg(name: str) -> PublishedFile:
    return PublishedFile((f'https://data.vision.ee.ethz.ch/jpont/mcg/{name}.tgz',), ((name, name),))


def _refer(name: str, archived: str) -> PublishedSet:
    url = f'bvisionweb1.cs.unc.edu/licheng/referit/data/{name}.zip'
    file = PublishedFile(
        (f'https://{url}', f'https://web.archive.org/web/{archived}id_/https://{url}'),
        ((name, name),),
    )
    config = 'refcocog-umd' if name == 'refcocog' else name
    title = {'refcoco': 'RefCOCO', 'refcoco+': 'RefCOCO+', 'refcocog': 'RefCOCOg'}[name]
    return PublishedSet(
        f'{title}, expressions and COCO train2014',
        'https://github.com/lichengunc/refer',
        'expressions: no terms besides the Apache-2.0 licence of the repository; ' + COCO_TERMS,
        (file, TRAIN2014),
        verify=(
            f'python tools/misc/verify_data.py configs/plvl/plvl_vit-b_4xb20-150e_{config}.py',
        ),
    )


def make_train_9118(root: Path) -> str:
    """Write the SBD images that are in none of VOC 2012's segmentation sets, to train_9118.txt.

    Args:
        root: The data root.
    """
    target = root / 'SBD/train_9118.txt'
    segmentation = root / 'VOCdevkit/VOC2012/ImageSets/Segmentation/trainval.txt'
    if not (root / 'SBD').is_dir():
        return f'{target} is missing: it needs sbd'
    if not segmentation.is_file():
        return f'{target} is missing: it needs voc2012'
    names = {
        line.strip() for split in ('train', 'val') for line in read_lines(root / f'SBD/{split}.txt')
    }
    names -= {line.strip() for line in read_lines(segmentation)} | {''}
    if len(names) != 9118:
        raise InputError(f'{target}: found {len(names):,} images for it, expected 9,118')
    target.write_text(''.join(f'{name}\n' for name in sorted(names)))
    return f'{target}: 9,118 images'


TRAIN2014 = _coco('zips/train2014.zip', 13510573713, ('train2014', 'images/train2014'), images=True)
VERIFY_VOC = ('python tools/misc/verify_data.py configs/pdsl/pdsl_r18_4xb1-100k_voc12.py',)
VERIFY_SBD = ('python tools/misc/verify_data.py configs/pdsl/pdsl_r18-released_4xb1-60k_voc12.py',)
VERIFY_COCO = ('python tools/misc/verify_data.py configs/pdsl/pdsl_r18_4xb1-240k_coco.py',)
VERIFY_PICTURES = (
    'python tools/misc/verify_data.py configs/rvse/rvsepp-r50_selhn_1xb128-30e_coco-pictures.py',
)
PROPOSALS = 'python tools/dataset_converters/proposals.py'

DATA_SETS = {
    'coco2014': PublishedSet(
        'COCO 2014, images and annotations',
        'https://cocodataset.org/#download',
        COCO_TERMS,
        (
            TRAIN2014,
            _coco('zips/val2014.zip', 6645013297, ('val2014', 'coco/val2014'), images=True),
            _coco(
                'annotations/annotations_trainval2014.zip',
                252872794,
                ('annotations', 'coco/annotations'),
                expansion=3.5,
            ),
        ),
        links=(('coco/train2014', 'images/train2014'),),
        verify=VERIFY_PICTURES,
    ),
    'coco2017': PublishedSet(
        'COCO 2017, images and annotations',
        'https://cocodataset.org/#download',
        COCO_TERMS,
        (
            _coco('zips/train2017.zip', 19336861798, ('train2017', 'coco/train2017'), images=True),
            _coco('zips/val2017.zip', 815585330, ('val2017', 'coco/val2017'), images=True),
            _coco(
                'annotations/annotations_trainval2017.zip',
                252907541,
                ('annotations', 'coco/annotations'),
                expansion=3.5,
            ),
        ),
        verify=VERIFY_COCO,
    ),
    'karpathy': PublishedSet(
        "Karpathy's splits of COCO's and Flickr30K's captions",
        'https://cs.stanford.edu/people/karpathy/deepimagesent/',
        "captions of COCO: CC BY 4.0; of Flickr30K: research and education (the makers' page)",
        (
            PublishedFile(
                ('https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip',),
                (
                    ('dataset_coco.json', 'coco/dataset_coco.json'),
                    ('dataset_flickr30k.json', 'flickr30k/dataset_flickr30k.json'),
                ),
                expansion=6,
            ),
        ),
        by_hand='images: coco2014; of Flickr30K, https://shannon.cs.illinois.edu/DenotationGraph/ '
        '(a form), to put in flickr30k/flickr30k-images/',
        verify=VERIFY_PICTURES,
    ),
    'refcoco': _refer('refcoco', '20220413011718'),
    'refcoco+': _refer('refcoco+', '20220413011656'),
    'refcocog': _refer('refcocog', '20220413012904'),
    'grefcoco': PublishedSet(
        'gRefCOCO, expressions and COCO train2014',
        'https://github.com/henghuiding/gRefCOCO',
        'expressions: CC BY-NC-SA 4.0; ' + COCO_TERMS,
        (
            *(
                PublishedFile(
                    (f'https://huggingface.co/datasets/FudanCVL/gRefCOCO/resolve/main/{name}',),
                    (('', f'grefcoco/{name}'),),
                )
                for name in ('grefs(unc).json', 'instances.json')
            ),
            TRAIN2014,
        ),
        verify=(
            'python tools/misc/verify_data.py '
            'configs/plvl/plvl_vit-b-generalized_4xb20-150e_grefcoco.py',
        ),
    ),
    'flickr30k-entities': PublishedSet(
        "Flickr30K Entities' annotations",
        'https://github.com/BryanPlummer/flickr30k_entities',
        'non-commercial research and education; images: the terms of use of Flickr',
        (
            PublishedFile(
                ('https://github.com/BryanPlummer/flickr30k_entities/raw/master/annotations.zip',),
                (
                    ('Annotations', 'flickr30k_entities/Annotations'),
                    ('Sentences', 'flickr30k_entities/Sentences'),
                ),
                expansion=8,
            ),
            *(
                PublishedFile(
                    (f'https://github.com/BryanPlummer/flickr30k_entities/raw/master/{split}.txt',),
                    (('', f'flickr30k_entities/{split}.txt'),),
                )
                for split in ('train', 'val', 'test')
            ),
        ),
        by_hand='images: https://shannon.cs.illinois.edu/DenotationGraph/ (a form), to put in '
        'images/flickr30k/',
        verify=(
            'python tools/misc/verify_data.py configs/plvl/plvl_vit-b-rec_4xb20-150e_flickr30k.py',
        ),
    ),
    'voc2007': PublishedSet(
        'VOC 2007, trainval and test',
        'http://host.robots.ox.ac.uk/pascal/VOC/voc2007/',
        VOC_TERMS,
        (
            _voc(
                'voc2007/VOCtrainval_06-Nov-2007.tar',
                460032000,
                'c52e279531787c972589f7e41ab4ae64',
                'VOCdevkit/VOC2007',
            ),
            _voc(
                'voc2007/VOCtest_06-Nov-2007.tar',
                451020800,
                'b6e924de25625d8de591ea690078ad9f',
                'VOCdevkit/VOC2007',
            ),
        ),
    ),
    'voc2012': PublishedSet(
        'VOC 2012, trainval',
        'http://host.robots.ox.ac.uk/pascal/VOC/voc2012/',
        VOC_TERMS,
        (
            _voc(
                'voc2012/VOCtrainval_11-May-2012.tar',
                1999639040,
                '6cd6e144f989b92b3379bac3b3de84fd',
                'VOCdevkit/VOC2012',
            ),
        ),
        verify=VERIFY_VOC,
        by_hand='test images: http://host.robots.ox.ac.uk:8080/ (an account); no config uses them',
        finish=make_train_9118,
    ),
    'sbd': PublishedSet(
        'SBD, images and boundaries of VOC 2011',
        'http://home.bharathh.info/pubs/codes/SBD/download.html',
        VOC_TERMS,
        (
            PublishedFile(
                (
                    'https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/'
                    'semantic_contours/benchmark.tgz',
                ),
                (('benchmark_RELEASE/dataset', 'SBD'),),
                digest='md5:82b4d87ceb2ed10f6038a1cba92111cb',
                images=True,
            ),
        ),
        verify=VERIFY_SBD,
        finish=make_train_9118,
    ),
    'mcg-voc2012': PublishedSet(
        'MCG boxes of VOC 2012',
        MCG_PAGE,
        MCG_TERMS,
        (_mcg('MCG-Pascal-Main_trainvaltest_2012-boxes'),),
        afterwards=(
            PROPOSALS
            + ' {root}/MCG-Pascal-Main_trainvaltest_2012-boxes data/proposals/voc2012_mcg',
            'export PDSL_PROPOSALS=data/proposals/voc2012_mcg',
        ),
        verify=VERIFY_VOC,
    ),
    'mcg-voc2012-sbd': PublishedSet(
        "MCG boxes of VOC 2012's segmentation set and of SBD",
        MCG_PAGE,
        MCG_TERMS,
        (_mcg('MCG-Pascal-Segmentation_trainvaltest_2012-boxes'), _mcg('MCG-SBD-trainval-boxes')),
        afterwards=(
            PROPOSALS + ' {root}/MCG-Pascal-Segmentation_trainvaltest_2012-boxes '
            '{root}/MCG-SBD-trainval-boxes data/proposals/voc2012_sbd_mcg --on-duplicate first',
            'export PDSL_PROPOSALS=data/proposals/voc2012_sbd_mcg',
        ),
        verify=VERIFY_SBD,
    ),
    'mcg-coco': PublishedSet(
        'MCG boxes of COCO',
        MCG_PAGE,
        MCG_TERMS,
        (_mcg('MCG-COCO-train2014-boxes'), _mcg('MCG-COCO-val2014-boxes')),
        afterwards=(
            'for file in {root}/MCG-COCO-*/COCO_*.mat; do mv "$file" "${{file%/*}}/${{file##*_}}"; '
            'done',
            PROPOSALS + ' {root}/MCG-COCO-{{train,val}}2014-boxes data/proposals/coco_mcg',
            'export PDSL_PROPOSALS=data/proposals/coco_mcg',
        ),
        verify=VERIFY_COCO,
    ),
}
