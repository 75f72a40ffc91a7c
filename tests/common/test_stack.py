"""What the libraries print while they are imported does not reach users."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    'command',
    [
        ('-c', 'import projects.pdsl.models.losses'),  # as in docs/tour.md
        ('-c', 'import projects.pdsl.evaluation'),
        ('-c', 'import projects.plvl.models'),
        ('tools/dataset_converters/grounding.py', '--help'),
        ('tools/misc/verify_data.py', '--help'),
    ],
    ids=lambda command: command[0] if command[0] != '-c' else command[1],
)
def test_imports_print_nothing(command):
    """In a new process, because this one may have imported the libraries already."""
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 'OneDL' not in done.stdout + done.stderr
    assert 'faster_coco_eval' not in done.stdout + done.stderr
