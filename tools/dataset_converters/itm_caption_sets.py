"""Make image-text matching data from captions alone: an image is a set of word vectors.

python tools/dataset_converters/itm_caption_sets.py results_20130124.txt --out data/caption_sets

The captions file holds --captions-per-image lines for each image, in order. The distinct content
words of an image's first --region-captions captions become its regions: every word has a fixed
random vector, to which noise is added. The remaining captions are used for matching, so they
describe the image partly in words that its regions contain. The first --train images become
train_ims.npy, train_caps.txt and train_ids.txt, and the next --test images become test_*. Read them
with PrecompMatchingDataset, setting captions_per_image to the number of remaining captions.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from projects.common.cli.options import add_overwrite_option, refuse_existing
from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError
from projects.common.files.annotation_files import read_lines
from projects.common.files.atomic import check_writable
from projects.rvse.datasets import write_precomputed
from projects.rvse.text import word_tokenize

# Words that carry no information about the image.
FUNCTION_WORDS = frozenset(
    """
    a about above across after against all along also among an and another any are around as at
    away back be because been before behind being below beneath beside between both but by can
    could do does doing down during each every few for from had has have having he her hers herself
    him himself his how i if in inside into is it its itself just many more most near next no not
    of off on one onto or other others our out outside over past she should so some something
    somewhere such than that the their them themselves then there these they this those through to
    together toward towards under up upon was we were what when where which while who whose will
    with within without would you your
    """.split()  # noqa: SIM905
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('captions', type=Path, help='text file, a caption a line')
    parser.add_argument('--out', type=Path, required=True, help='folder to write to')
    parser.add_argument('--captions-per-image', type=int, default=5, help='lines for each image')
    parser.add_argument('--region-captions', type=int, default=3, help='of them, read as regions')
    parser.add_argument('--train', type=int, default=800, help='images to train with')
    parser.add_argument('--test', type=int, default=200, help='further images to test with')
    parser.add_argument('--regions', type=int, default=20, help='at most so many for an image')
    parser.add_argument(
        '--same-size',
        action='store_true',
        help='fill every set up to --regions with its words again, each with other noise, as SGRAF '
        'needs it',
    )
    parser.add_argument(
        '--content-words',
        type=int,
        metavar='N',
        help='cut the matched captions down to their first N content words: fewer steps of a GRU, '
        'fewer pairs of words and regions (default: whole captions)',
    )
    parser.add_argument('--channels', type=int, default=64, help='of a word vector')
    parser.add_argument('--noise', type=float, default=0.2, help='standard deviation; words have 1')
    parser.add_argument('--seed', type=int, default=0, help='of vectors and noise')
    add_overwrite_option(parser)
    return parser.parse_args()


def content_words(captions: Sequence[str], limit: int | None = None) -> list[str]:
    """Return the first ``limit`` distinct words of ``captions`` that are not function words."""
    words = (word for text in captions for word in word_tokenize(text.lower()))
    kept = (w for w in words if any(map(str.isalpha, w)) and w not in FUNCTION_WORDS)
    return [w for w in dict.fromkeys(kept) if w[0] != "'"][:limit]


def word_vectors(words: Sequence[str], channels: int, seed: int) -> dict[str, np.ndarray]:
    """Return a standard normal vector (channels,) for each of the sorted ``words``."""
    words = sorted(set(words))
    vectors = np.random.default_rng([seed, 0]).standard_normal((len(words), channels))
    return dict(zip(words, vectors.astype(np.float32), strict=True))


def noisy_sets(
    sets: Sequence[Sequence[str]],
    vectors: dict[str, np.ndarray],
    noise: float,
    size: int | None,
    seed: int,
) -> Iterator[np.ndarray]:
    """Yield the regions (N, C) of each set of words.

    Args:
        sets: Words of each image.
        vectors: The vector of each word.
        noise: Standard deviation of the noise added to every region.
        size: Number of regions per image; words are repeated in order. None uses one per word.
        seed: Seed of the noise.
    """
    for number, words in enumerate(sets):
        rng = np.random.default_rng([seed, 1, number])
        clean = np.stack([vectors[word] for word in words])
        if size is not None:
            clean = clean[np.arange(size) % len(clean)]
        yield clean + noise * rng.standard_normal(clean.shape).astype(np.float32)


def main() -> None:
    args = parse_args()
    if not args.captions.is_file():
        raise InputError(f'{args.captions}: no such file of captions')
    each, shown = args.captions_per_image, args.region_captions
    if not 0 < shown < each:
        raise InputError(
            f'--region-captions: {shown}, expected 1 to {each - 1} of {each} --captions-per-image'
        )
    for name, least in (('train', 1), ('test', 1), ('regions', 1), ('channels', 1), ('noise', 0)):
        if getattr(args, name) < least:
            raise InputError(f'--{name}: {getattr(args, name)}, expected {least} or more')
    refuse_existing([args.out / f'{split}_ims.npy' for split in ('train', 'test')], args.overwrite)
    check_writable(args.out)
    lines = read_lines(args.captions)
    wanted = args.train + args.test
    if len(lines) < wanted * each:
        raise InputError(
            f'{args.captions}: {len(lines):,} lines, expected {wanted * each:,} or more: {each} '
            f'for each of {wanted:,} images (--train, --test, --captions-per-image)'
        )
    blank = next((i for i in range(wanted * each) if not lines[i].strip()), None)
    if blank is not None:
        raise InputError(f'{args.captions}:{blank + 1}: found a blank line, expected a caption')
    groups = [lines[i * each : (i + 1) * each] for i in range(wanted)]
    sets = [content_words(group[:shown], args.regions) for group in groups]
    if [] in sets:
        i = sets.index([])
        raise InputError(f'{args.captions}:{i * each + 1}: found no content word in {shown} lines')
    vectors = word_vectors([w for words in sets for w in words], args.channels, args.seed)
    features = noisy_sets(
        sets, vectors, args.noise, args.regions if args.same_size else None, args.seed
    )
    texts = [group[shown:] for group in groups]
    if args.content_words:
        # leave captions without remaining words unchanged
        texts = [
            [' '.join(content_words([t], args.content_words)) or t for t in group]
            for group in texts
        ]
    images = [dict(text=text, ori_id=str(i)) for i, text in enumerate(texts)]
    args.out.mkdir(parents=True, exist_ok=True)
    for split, part in (('train', images[: args.train]), ('test', images[args.train :])):
        count = write_precomputed(args.out, split, (next(features) for _ in range(len(part))), part)
        print(f'{args.out}: {split}, {len(part):,} images with {count:,} captions')
    sizes = [len(words) for words in sets]
    print(f'{len(vectors):,} words; {min(sizes)} to {max(sizes)} for an image')


if __name__ == '__main__':
    with report_user_errors():
        main()
