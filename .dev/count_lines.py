"""Count the non-blank lines of the repository by purpose, as a table in Markdown.

    python .dev/count_lines.py 3ed3360 HEAD

The last table of docs/architecture.md is made in this way. Every file of Python or Markdown counts
once, for the first purpose whose pattern matches its path. Generated files are left out: notebooks
and the configs of the published models.
"""

import argparse
import re
import subprocess
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The first match counts; patterns cover the paths of older commits as well.
PURPOSES = {
    'tests': ('tests/',),
    'configs': (r'configs/.*\.py$',),
    'documentation': (r'.*\.md$', 'docs/', 'demo/notebooks/'),
    'benchmarks': ('benchmarks/', 'tools/analysis_tools/(bench|published_loops)'),
    "maintainers' scripts, environment": (
        r'\.dev/', r'setup\.py', 'tools/misc/(make_|draw_scenes|setup_env|mmcv_compiler)',
    ),
    'demo, quick starts': ('demo/', r'.*/quickstart\.py$'),
    'synthetic scenes': ('projects/common/scenes/', 'tools/misc/generate_scenes'),
    'preflight': ('(projects|tools)/.*preflight',),
    'weights': (
        'projects/common/(weights/|checkpoint|convert)', 'projects/.*/(released_|layouts)',
        'tools/(model_converters/|misc/publish)',
    ),
    'visualization': ('projects/.*(visualiz|analysis_page|generalized_drawing)',),
    "the papers' models, losses, cues, mining and metrics": (
        'projects/(plvl|pdsl|rvse)/(models/|losses|cues/)',
        'projects/rvse/engine/(clean|co_train|loss_warm_up|offline)',
        r'projects/.*/((corloc|tag|grounding|generalized)_metric|ranks|recalls)\.py$',
    ),
    'evaluation besides metrics': (
        'projects/.*/(evaluation/|prediction_dump|calibration/|bootstrap)',
    ),
    'readers of data, words, proposals': (
        'projects/.*/(datasets|descriptions|downloads|proposals|text|files)/',
        'projects/pdsl/geometry',
        'projects/common/(annotation_files|array_files|files|images|unpickle)',
        'tools/(dataset_converters|misc/(generate_prop|verify_data|precompute|download_|dataset_))',
    ),
    'inferencers, galleries, export': (
        'projects/.*(inferencer|retrieval/|deployment/|onnx_|pseudo_label_export)',
        'tools/(deployment|infer|misc/export)',
    ),
    'command line': ('tools/', 'projects/common/(cli|progress)'),
    'training: hooks, optimizers, speed': ('projects/',),
}  # fmt: skip
NOT_CODE = ('tests', 'configs', 'documentation')


def count(commit: str) -> Counter:
    """Count the lines of a commit by purpose.

    Raises:
        ValueError: A file has no purpose.
    """
    command = ['git', 'grep', '-c', '[^[:space:]]', commit, '--', '*.py', '*.md', ':!demo/models']
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found: Counter = Counter()
    for line in lines.splitlines():
        path, number = line.removeprefix(f'{commit}:').rsplit(':', 1)
        purpose = next(
            (name for name, patterns in PURPOSES.items() if re.match('|'.join(patterns), path)),
            None,
        )
        if purpose is None:
            raise ValueError(f'{path}: no purpose in {Path(__file__).name}')
        found[purpose] += int(number)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('commits', nargs='+')
    counts = {commit: count(commit) for commit in parser.parse_args().commits}
    code = {c: sum(n for p, n in by.items() if p not in NOT_CODE) for c, by in counts.items()}
    print(f'| purpose | {" | ".join(counts)} |')
    print('|---|' + '---|' * len(counts))
    for purpose in (*(p for p in reversed(PURPOSES) if p not in NOT_CODE), *NOT_CODE):
        cells = []
        for commit, by in counts.items():
            share = '' if purpose in NOT_CODE else f' ({100 * by[purpose] / code[commit]:.0f} %)'
            cells.append(f'{by[purpose]:,}{share}')
        print(f'| {purpose} | {" | ".join(cells)} |')
    print(f'| all but {", ".join(NOT_CODE)} | {" | ".join(f"{n:,}" for n in code.values())} |')


if __name__ == '__main__':
    main()
