"""Run a trained model on images.

    python tools/infer.py grounding street.jpg 'the red car' 'left man' --weights best.pth
    python tools/infer.py weak street.jpg --weights best.pth
    python tools/infer.py retrieval index photos/ --store work_dirs/photos --weights best.pth
    python tools/infer.py retrieval search 'a dog' --store work_dirs/photos --weights best.pth
    python tools/infer.py retrieval list --store work_dirs/photos
    python tools/infer.py search-and-ground 'a dog' --store work_dirs/photos \\
        --search-weights rvse.pth --ground-weights plvl.pth
    python tools/infer.py models 'plvl_*refcoco*'

There is one subcommand per task; `models` lists the config names that --model accepts.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).resolve().parents[1])
)  # for `projects`, from any working directory

from projects.common.cli.inference import (
    add_device,
    add_model_options,
    add_outputs,
    add_skip_options,
    add_source,
    add_store,
    build,
    check_outputs,
    describe,
    open_store,
)
from projects.common.cli.report import report_user_errors
from projects.common.files.atomic import check_output_file


def add_grounding(tasks: argparse._SubParsersAction) -> None:
    parser = tasks.add_parser(
        'grounding',
        help='a box and a mask of what each sentence names',
        description='Find and cut out what sentences name. Writes OUT_DIR/preds/<image>.json '
        'and OUT_DIR/vis/<image>_<number>.jpg.',
    )
    parser.add_argument('image', help='an image, or a folder of images')
    parser.add_argument('sentences', nargs='+', metavar='SENTENCE', help='asked of every image')
    add_model_options(parser)
    add_outputs(parser)
    parser.set_defaults(run=run_grounding)


def add_weak(tasks: argparse._SubParsersAction) -> None:
    parser = tasks.add_parser(
        'weak',
        help='boxes and masks of all instances, by a model that learnt from tags',
        description='Find instances of the classes that a PDSL has learnt from tags. Writes '
        'OUT_DIR/preds/<image>.json and OUT_DIR/vis/<image>.jpg.',
    )
    parser.add_argument('image', help='an image, or a folder of images')
    parser.add_argument(
        '--proposals',
        help='folder of generate_proposals.py or proposals.py with those of all images; '
        'default: Selective Search makes them',
    )
    parser.add_argument('--quality', action='store_true', help='slower search, more proposals')
    parser.add_argument(
        '--max-proposals', type=int, help='of each image that is searched; default: as tested'
    )
    parser.add_argument(
        '--min-side', type=float, default=0, help='pixels of the shorter side of a searched box'
    )
    parser.add_argument(
        '--max-side', type=int, help='search in the image reduced to this; default: full size'
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        help='least score of what is drawn and printed; the JSON has all (default: that of the '
        'calibration if the weights have one, else 0.3)',
    )
    add_model_options(parser)
    add_outputs(parser)
    parser.set_defaults(run=run_weak)


def run_grounding(args: argparse.Namespace) -> None:
    from projects.plvl import GroundingInferencer

    check_outputs(args)
    results = build(GroundingInferencer, args)(
        args.image,
        args.sentences,
        batch_size=args.batch_size,
        out_dir=args.out_dir,
        no_save_vis=args.no_save_vis,
        no_save_pred=args.no_save_pred,
        skip_damaged=args.skip_damaged,
        skipped_file=args.skipped_file,
    )
    for prediction in results['predictions']:
        print(f'{prediction["image"]}: "{prediction["sentence"]}": {describe(prediction)}')
    if not (args.no_save_vis and args.no_save_pred):
        print(f'written to {args.out_dir}')


def run_weak(args: argparse.Namespace) -> None:
    from projects.pdsl import WeakInstanceInferencer

    check_outputs(args)
    options = dict(quality=args.quality, min_side=args.min_side, max_side=args.max_side)
    if args.max_proposals is not None:
        options['max_proposals'] = args.max_proposals
    inferencer = build(WeakInstanceInferencer, args, proposal_options=options)
    least = inferencer.score_thr if args.score_thr is None else args.score_thr
    results = inferencer(
        args.image,
        args.proposals,
        batch_size=args.batch_size,
        out_dir=args.out_dir,
        no_save_vis=args.no_save_vis,
        no_save_pred=args.no_save_pred,
        skip_damaged=args.skip_damaged,
        skipped_file=args.skipped_file,
        pred_score_thr=least,
    )
    for prediction in results['predictions']:
        found = zip(prediction['classes'], prediction['scores'], prediction['bboxes'])
        shown = [each for each in found if each[1] >= least]
        print(f'{prediction["image"]}: {len(shown)} with a score of {least:g} or more')
        for name, score, bbox in shown:
            box = ' '.join(f'{value:.1f}' for value in bbox)
            print(f'    {name}: box {box}, score {score:.3f}')
    if not (args.no_save_vis and args.no_save_pred):
        print(f'written to {args.out_dir}')


def add_retrieval(tasks: argparse._SubParsersAction) -> None:
    parser = tasks.add_parser(
        'retrieval',
        help='images for sentences, sentences for images',
        description='Index a gallery once, then ask it. A store is a folder (faiss, exact), '
        'milvus:FILE.db (Milvus Lite) or milvus:http://HOST:19530 (a server or cluster).',
    )
    actions = parser.add_subparsers(metavar='ACTION', required=True)
    index = actions.add_parser(
        'index', help='add images or sentences to a store, unless they are there unchanged'
    )
    index.add_argument(
        'gallery', help='folder of images, an image, or a .txt file with a sentence a line'
    )
    index.add_argument('--batch-size', type=int, default=32, help='images at once (default: 32)')
    index.add_argument(
        '--cache-dir',
        default='work_dirs/embeddings',
        help='where embeddings are kept by content (default: %(default)s)',
    )
    add_skip_options(index)
    search = actions.add_parser('search', help='ask a store')
    search.add_argument(
        'queries', nargs='+', metavar='QUERY', help='a sentence, or the path of an image'
    )
    search.add_argument('--top-k', type=int, default=5, help='entries to find (default: 5)')
    search.add_argument('--min-similarity', type=float, help='least cosine of query and entry')
    search.add_argument(
        '--min-probability',
        type=float,
        nargs='?',
        const=-1.0,
        metavar='P',
        help='least probability of query and entry belonging together, of calibrated weights '
        '(default without a value: the threshold of their calibration)',
    )
    search.add_argument(
        '--fold-duplicates',
        type=float,
        nargs='?',
        const=0.98,
        metavar='COSINE',
        help='show entries that resemble a better one as much as this only as its number of '
        'near-duplicates (default without a value: %(const)s)',
    )
    search.add_argument(
        '--rerank', type=int, default=50, help='entries that --rerank-weights sorts (default: 50)'
    )
    add_source(search, 'rerank-', ' of a model such as SCAN that puts the first entries in order')
    search.add_argument('--out', metavar='FILE', help='write the hits as JSON, too')
    for action, run in ((index, run_index), (search, run_search)):
        action.add_argument(
            '--prune', action='store_true', help='remove entries whose images are gone, too'
        )
        add_store(action)
        add_model_options(action)
        action.set_defaults(run=run)
    entries = actions.add_parser('list', help='print the entries of a store')
    entries.add_argument('--gone', action='store_true', help='only those whose images are gone')
    remove = actions.add_parser('remove', help='remove entries from a store')
    remove.add_argument('names', nargs='+', metavar='NAME', help='as `list` prints it')
    for action, run in ((entries, run_list), (remove, run_remove)):
        add_store(action)
        action.set_defaults(run=run)


def open_any_store(args: argparse.Namespace):
    """Open an existing store without its model."""
    from projects.rvse.retrieval import open_store as open_uri

    return open_store(partial(open_uri, space=None), args, create=False)


def run_list(args: argparse.Namespace) -> None:
    from projects.rvse.retrieval import gone_entries

    with open_any_store(args) as store:
        for name in gone_entries(store) if args.gone else store.names():
            print(name)


def run_remove(args: argparse.Namespace) -> None:
    with open_any_store(args) as store:
        before = len(store)
        store.remove(args.names)
        store.save()
        print(f'{args.store}: {before - len(store)} entries removed, {len(store)} left')


def prune_store(store, args: argparse.Namespace) -> None:
    from projects.rvse.retrieval import prune

    if args.prune and len(store):
        print(f'{args.store}: {len(prune(store))} entries removed, whose images are gone')


def run_index(args: argparse.Namespace) -> None:
    from projects.rvse import RetrievalInferencer

    inferencer = build(RetrievalInferencer, args, cache_dir=args.cache_dir)
    with open_store(inferencer.open_store, args, create=True) as store:
        added = inferencer.index(
            args.gallery,
            store,
            args.batch_size,
            skip_damaged=args.skip_damaged,
            skipped_file=args.skipped_file,
        )
        prune_store(store, args)
        print(f'{args.store}: {added} entries added or replaced, {len(store)} in all')


def run_search(args: argparse.Namespace) -> None:
    from projects.common.inferencer import write_predictions
    from projects.rvse import Reranker, RetrievalInferencer

    if args.out:
        check_output_file(args.out)
    reranked = args.rerank_weights or args.rerank_model
    reranker = build(Reranker, args, 'rerank-') if reranked else None
    inferencer = build(RetrievalInferencer, args)
    calibration, probability = (reranker or inferencer).calibration, args.min_probability
    if probability == -1.0 and calibration is not None:
        probability = calibration.threshold
    with open_store(inferencer.open_store, args, create=False) as store:
        prune_store(store, args)
        found = inferencer(
            args.queries,
            store,
            args.top_k,
            args.min_similarity,
            args.fold_duplicates,
            reranker,
            args.rerank,
            probability,
        )
    for query, hits in zip(args.queries, found, strict=True):
        print(query if hits else f'{query}: nothing is similar enough')
        for hit in hits:
            near = f' (and {len(hit.duplicates)} like it)' if hit.duplicates else ''
            chance = '' if hit.probability is None else f'  {100 * hit.probability:5.1f} %'
            print(f'    {hit.score:.3f}{chance}  {hit.name}{near}')
    if args.out:
        rows = [
            dict(query=query, hits=[hit.as_dict() for hit in hits])
            for query, hits in zip(args.queries, found, strict=True)
        ]
        write_predictions(Path(args.out), rows)
        print(f'written to {args.out}')


def add_search_and_ground(tasks: argparse._SubParsersAction) -> None:
    parser = tasks.add_parser(
        'search-and-ground',
        help='images for sentences, with a box and a mask in each',
        description='Find images for sentences in a store that `retrieval index` has made, and '
        'cut out in each what the sentence names. Writes OUT_DIR/predictions.json and, for each '
        'sentence, OUT_DIR/vis/sentence_<number>.jpg.',
    )
    parser.add_argument('sentences', nargs='+', metavar='SENTENCE')
    parser.add_argument('--top-k', type=int, default=5, help='images to find (default: 5)')
    parser.add_argument(
        '--min-image-score',
        '--min-picture-score',  # old spelling
        type=float,
        help='least cosine of image and sentence',
    )
    parser.add_argument(
        '--min-object-score', type=float, help='least confidence of the box and mask, 0 to 1'
    )
    add_store(parser)
    add_source(parser, 'search-', ' of the model that finds images')
    add_source(parser, 'ground-', ' of the model that cuts out')
    add_device(parser)
    add_outputs(parser)
    parser.set_defaults(run=run_search_and_ground)


def run_search_and_ground(args: argparse.Namespace) -> None:
    from projects.common.errors import InputError
    from projects.plvl import GroundingInferencer
    from projects.rvse import RetrievalInferencer
    from projects.search_and_ground import SearchAndGround

    check_outputs(args)
    for sentence in args.sentences:
        if Path(sentence).is_file():  # the same as `retrieval search`
            raise InputError(f'{sentence}: an image; what is searched and grounded is a sentence')
    search = build(RetrievalInferencer, args, 'search-')
    with open_store(search.open_store, args, create=False) as store:
        results = SearchAndGround(search, build(GroundingInferencer, args, 'ground-'))(
            args.sentences,
            store,
            args.top_k,
            args.min_image_score,
            args.min_object_score,
            batch_size=args.batch_size,
            out_dir=args.out_dir,
            no_save_vis=args.no_save_vis,
            no_save_pred=args.no_save_pred,
            skip_damaged=args.skip_damaged,
            skipped_file=args.skipped_file,
        )
    for prediction in results['predictions']:
        print(f'{prediction["query"]}{"" if prediction["hits"] else ": no image"}')
        for hit in prediction['hits']:
            print(f'    {hit["score"]:.3f}  {hit["name"]}: {describe(hit["grounding"])}')
        found = [hit['grounding'].get('found', True) for hit in prediction['hits']]
        if found and not any(found):
            print('    nothing fits in any of these images')
    if not (args.no_save_vis and args.no_save_pred):
        print(f'written to {args.out_dir}')


def add_models(tasks: argparse._SubParsersAction) -> None:
    parser = tasks.add_parser('models', help='the names that --model takes')
    parser.add_argument('pattern', nargs='?', default='*', help='shell-style wildcards')
    parser.set_defaults(run=run_models)


def run_models(args: argparse.Namespace) -> None:
    from projects.common.config_index import list_models

    print(*list_models(args.pattern), sep='\n')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tasks = parser.add_subparsers(metavar='TASK', required=True)
    add_grounding(tasks)
    add_weak(tasks)
    add_retrieval(tasks)
    add_search_and_ground(tasks)
    add_models(tasks)
    args = parser.parse_args()
    from projects.common.speed.allocator import keep_freed_memory

    keep_freed_memory()
    args.run(args)


if __name__ == '__main__':
    with report_user_errors():
        main()
