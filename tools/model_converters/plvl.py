"""Convert the released PLVL checkpoint to our format, and back.

    python tools/model_converters/plvl.py plvl_released.pth plvl_ours.pth --vocab vocab.txt
    python tools/model_converters/plvl.py best.pth for_the_released_code.pth --to released

Lists the tensors without a counterpart in the result, and those that only the result has.
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

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/plvl/plvl_vit-b_4xb20-150e_refcoco.py'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_conversion_options(parser)
    parser.add_argument(
        '--config', default=CONFIG, help='config of the model (default: %(default)s)'
    )
    add_vocabulary_options(parser, "BERT's vocab.txt")
    args = parser.parse_args()
    check_vocabulary_options(parser, args)

    from projects.common.text import WordPieceTokenizer
    from projects.plvl.released_weights import VOCABULARY_KEY, convert_plvl, empty_model

    check_output_file(args.target)
    model = empty_model(load_config(args.config))
    weights, rest = read_weights(args.source, args.trust_checkpoint)
    if args.to == 'ours':
        vocabulary = rest.get('vocabulary')  # written below; the released code does not read it
        if args.vocab:
            lowercase = model.text_encoder.lowercase
            model.text_encoder.set_tokenizer(WordPieceTokenizer.from_file(args.vocab, lowercase))
            vocabulary = model.text_encoder.get_extra_state()
        done = convert_plvl(weights, model, vocabulary=vocabulary, what=args.source)
        content = dict(state_dict=done.weights, meta=dict(converted_from=Path(args.source).name))
        if vocabulary is None:
            print('no vocabulary: give --vocab, or set PLVL_VOCAB where the checkpoint is used')
    else:
        original = None
        if args.original:
            original, _ = read_weights(args.original, args.trust_checkpoint)
        done = convert_plvl(weights, model, 'released', original, what=args.source)
        epoch = (rest.get('meta') or {}).get('epoch', 0)
        content = dict(model=done.weights, epoch=epoch, vocabulary=weights.get(VOCABULARY_KEY))
    write_checkpoint(args.target, content)
    dropped = done.dropped
    if args.to == 'released' and dropped:
        print('the vocabulary stands beside the weights, which the released code does not look at')
    else:
        print_names(dropped, 'tensors dropped, which no forward pass uses')
    print_names(done.made, 'tensors made (zeros; norms: ones), which no forward pass uses')
    print(f'{args.target}: {len(done.weights)} tensors')


if __name__ == '__main__':
    with report_user_errors():
        main()
