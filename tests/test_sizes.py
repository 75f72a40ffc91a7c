"""Files and classes stay small enough to be read at once: one concept a file.

A file has at most 400 lines, unless the first lines of its docstring give a reason (``Long: ...``),
and a class at most 250. Tests are not counted: their files follow those that they test. Neither are
published models (``demo/models``), whose configs a tool writes.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ('projects', 'tools', 'benchmarks', 'demo', '.dev')
MAX_FILE = 400
MAX_CLASS = 250
REASON = 'Long: '


def too_large(root: Path) -> set[str]:
    """Return the files and the classes (``file: class``) below the folders that are too large."""
    found = set()
    for path in (path for folder in FOLDERS for path in (root / folder).rglob('*.py')):
        name = path.relative_to(root).as_posix()
        if name.startswith('demo/models/'):
            continue
        text = path.read_text(encoding='utf-8')
        tree = ast.parse(text)
        reason = (ast.get_docstring(tree) or '').splitlines()[:5]
        if text.count('\n') > MAX_FILE and not any(line.startswith(REASON) for line in reason):
            found.add(name)
        found |= {
            f'{name}: {node.name}'
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and node.end_lineno - node.lineno >= MAX_CLASS
        }
    return found


def test_files_and_classes_are_small():
    assert all(any((ROOT / folder).rglob('*.py')) for folder in FOLDERS)
    assert not too_large(ROOT)


def test_large_file_and_class_are_noticed(tmp_path):
    (tmp_path / 'projects').mkdir()
    body = '    x = 1\n' * 249
    (tmp_path / 'projects/fits.py').write_text(f'class A:\n{body}\n\nclass B:\n    pass\n')
    assert not too_large(tmp_path)
    (tmp_path / 'projects/wide.py').write_text(f'class A:\n{body}    y = 1\n')
    (tmp_path / 'projects/long.py').write_text('x = 1\n' * 401)
    (tmp_path / 'projects/table.py').write_text(
        '"""A table.\n\nLong: it is one."""\n' + 'x\n' * 400
    )
    assert too_large(tmp_path) == {'projects/wide.py: A', 'projects/long.py'}
