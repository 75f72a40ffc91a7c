"""Show where a grounding model fails: plots by group of sentences, and the worst failures.

    python tools/test.py CONFIG CHECKPOINT --out predictions.json
    python tools/analysis_tools/analyze_grounding.py CONFIG predictions.json --out-dir analysis

Writes groups.json (the figures), groups.png (the plots) and index.html (both, and drawings of the
failures). For models that return any number of boxes, such as zero-shot grounders, a table counts
them by kind of sentence. Pass the CONFIG and --cfg-options of the test: the ground truth comes from
its dataset.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


from projects.common.cli.config import load_config
from projects.common.cli.options import add_cfg_options
from projects.common.cli.predictions import build_dataset, read_predictions
from projects.common.cli.report import report_user_errors
from projects.common.files.annotation_files import json_bytes
from projects.common.files.atomic import check_writable


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file of the test')
    parser.add_argument('predictions', help='what tools/test.py --out wrote, .json or .pkl')
    parser.add_argument(
        '--out-dir', default='work_dirs/analysis', help='folder to write to (default: %(default)s)'
    )
    parser.add_argument(
        '--failures', type=int, default=30, help='how many failures to draw (default: %(default)s)'
    )
    parser.add_argument('--title', help='of the page (default: names of config and predictions)')
    add_cfg_options(parser, 'as in the test')
    args = parser.parse_args()
    check_writable(args.out_dir)
    cfg = load_config(args.config, args.cfg_options)
    predictions = read_predictions(args.predictions)

    import projects.plvl.register  # noqa: F401
    from projects.plvl.evaluation.analysis_page import plot_groups, write_page
    from projects.plvl.evaluation.grounding_analysis import (
        analyze,
        match_predictions,
        summarize,
        worst_failures,
    )
    from projects.plvl.evaluation.returned_boxes import COLUMNS, count_returned, rows_of

    dataset = build_dataset(cfg, args.config)
    records = match_predictions(dataset, predictions, args.predictions)
    overall, groups = summarize('all', records), analyze(records)
    out_dir = Path(args.out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    plain = {title: [asdict(group) for group in members] for title, members in groups.items()}
    content = dict(all=asdict(overall), groups=plain)
    returned = count_returned(records)
    if returned:
        content['returned'] = {
            heading: [asdict(group) for group in members] for heading, members in returned.items()
        }
    (out_dir / 'groups.json').write_bytes(json_bytes(content, indent=2) + b'\n')
    figure = plot_groups(groups, overall)
    figure.savefig(out_dir / 'groups.png')
    title = args.title or f'{Path(args.config).stem}: {Path(args.predictions).name}'
    failures = worst_failures(records, args.failures)
    write_page(out_dir / 'index.html', title, overall, groups, figure, failures, returned)
    for heading, members in groups.items():
        print(f'\n{heading:<36}{"sentences":>10}{"accuracy":>10}{"interval":>16}')
        for group in members:
            interval = f'{group.low:.1f} - {group.high:.1f}'
            print(f'{group.name[:35]:<36}{group.count:>10}{group.accuracy:>10.1f}{interval:>16}')
    for heading, members in returned.items():
        print(f'\n{f"Boxes returned: {heading}":<36}' + ''.join(f'{c:>20}' for c in COLUMNS))
        for name, *cells in rows_of(members):
            print(f'{name[:35]:<36}' + ''.join(f'{cell:>20}' for cell in cells))
    print(
        f'\n{overall.count} sentences, accuracy at IoU 0.5: {overall.accuracy:.2f} %; '
        f'see {out_dir / "index.html"}'
    )


if __name__ == '__main__':
    with report_user_errors():
        main()
