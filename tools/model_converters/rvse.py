"""Convert checkpoints of VSE-infinity, RVSE++, SCAN, BFAN and SGRAF to our format, and back.

    python tools/model_converters/rvse.py CONFIG model_best.pth.tar ours.pth --vocab f30k_vocab.json
    python tools/model_converters/rvse.py CONFIG best.pth for_the_released_code.pth --to released

CONFIG is the config of the model. Lists the tensors without a counterpart in the result, and those
that only the result has.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from projects.common.cli.config import load_config
from projects.common.cli.options import (
    add_conversion_options,
    add_vocabulary_options,
    check_vocabulary_options,
)
from projects.common.cli.report import report_user_errors
from projects.common.files.atomic import check_output_file
from projects.common.weights.convert import (
    print_names,
    read_weights,
    write_checkpoint,
)


def vocabulary_state(model, path: str):
    """Return the vocabulary in a file in the form that the text encoder of ``model`` stores."""
    from projects.common.text import WordPieceTokenizer
    from projects.rvse.models import BERTCaptionEncoder
    from projects.rvse.text import Vocabulary

    if isinstance(model.text_encoder, BERTCaptionEncoder):
        encoder = model.text_encoder.encoder
        encoder.set_tokenizer(WordPieceTokenizer.from_file(path, encoder.lowercase))
        return encoder.get_extra_state()
    model.text_encoder.set_vocabulary(Vocabulary.from_file(path))
    return model.text_encoder.get_extra_state()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'config', help='config of the model: a file, or a name that `infer.py models` lists'
    )
    add_conversion_options(parser)
    add_vocabulary_options(parser, "the released vocabulary (json; BERT's vocab.txt)")
    args = parser.parse_args()
    check_vocabulary_options(parser, args)

    from projects.common.config_index import find_config
    from projects.rvse.released_weights import (
        VOCABULARY_KEYS,
        as_released_list,
        check_options,
        empty_matcher,
        from_released,
        read_released,
        to_released,
    )

    check_output_file(args.target)
    cfg = load_config(find_config(args.config))
    name = Path(args.source).name
    if args.to == 'ours':
        weights, rest = read_released(args.source, args.trust_checkpoint)
        embedding = weights.get('1:embed.weight')
        model = empty_matcher(cfg, None if embedding is None else len(embedding))
        check_options(rest.get('opt'), model, args.source)
        vocabulary = vocabulary_state(model, args.vocab) if args.vocab else None
        done = from_released(weights, model, vocabulary, args.source)
        content = dict(state_dict=done.weights, meta=dict(converted_from=name))
        if vocabulary is None:
            print('no vocabulary: give --vocab, or name one where the checkpoint is used')
    else:
        weights, rest = read_weights(args.source, args.trust_checkpoint)
        embedding = weights.get('text_encoder.embed.weight')
        model = empty_matcher(cfg, None if embedding is None else len(embedding))
        original = None
        if args.original:
            original, _ = read_released(args.original, args.trust_checkpoint)
        done = to_released(weights, model, original, args.source)
        epoch = (rest.get('meta') or {}).get('epoch', 0)
        content = dict(model=as_released_list(done.weights, model), epoch=epoch)
    write_checkpoint(args.target, content)
    print_names(
        tuple(key for key in done.dropped if key not in VOCABULARY_KEYS),
        'tensors dropped, which no forward pass reads',
    )
    if args.to == 'released' and done.dropped:
        print('the vocabulary is left out: the released code reads it from its own file')
    print_names(done.made, 'tensors made as before training, which no forward pass reads')
    print(f'{args.target}: {len(done.weights)} tensors')


if __name__ == '__main__':
    with report_user_errors():
        main()
