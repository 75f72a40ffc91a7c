"""Generate demo/notebooks/*.ipynb from the scripts next to them.

Edit the scripts (in jupytext's percent format). The notebooks are committed without outputs, which
would differ between machines and add megabytes of images to each change. Without outputs, `--check`
can compare every byte. `--execute FOLDER` runs the notebooks and writes copies with outputs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from projects.common.cli.report import report_user_errors
from projects.common.errors import InputError

COMMAND = 'python .dev/make_notebooks.py'
KERNEL = {'display_name': 'Python 3', 'language': 'python', 'name': 'python3'}


def make(script: Path):
    """Return a script's notebook without outputs; the same script always gives the same bytes."""
    import jupytext

    notebook = jupytext.read(script)
    for number, cell in enumerate(notebook.cells):
        cell.id = f'cell-{number}'  # random otherwise
    notebook.metadata = {'kernelspec': KERNEL, 'language_info': {'name': 'python'}}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def execute(notebook, folder: Path, timeout: int) -> None:
    """Run the cells in a separate kernel, in the folder, and keep the outputs in the notebook.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    from nbclient import NotebookClient

    NotebookClient(
        notebook, timeout=timeout, resources={'metadata': {'path': str(folder)}}
    ).execute()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--check', action='store_true', help='write nothing, fail if it would')
    parser.add_argument('--execute', type=Path, metavar='FOLDER', help='also run them, into FOLDER')
    parser.add_argument('--root', type=Path, default=ROOT, help='checkout (default: this one)')
    args = parser.parse_args()
    import nbformat

    scripts = sorted((args.root / 'demo/notebooks').glob('*.py'))
    if not scripts:
        raise InputError(f'{args.root}/demo/notebooks: no script')
    for script in scripts:
        notebook, path = make(script), script.with_suffix('.ipynb')
        text = nbformat.writes(notebook) + '\n'
        if not path.is_file() or path.read_text(encoding='utf-8') != text:
            if args.check:
                name = path.relative_to(args.root)
                raise InputError(f'{name}: is not what its script says; run {COMMAND}')
            path.write_text(text, encoding='utf-8')
            print(f'written: {path}')
        if args.execute:
            execute(notebook, script.parent, timeout=1800)
            args.execute.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, args.execute / path.name)
            print(f'executed: {args.execute / path.name}')


if __name__ == '__main__':
    with report_user_errors():
        main()
