import os
from pathlib import Path

import pytest


@pytest.fixture(scope='session')
def shared_reference() -> Path:
    """The folder with the released code's outputs."""
    root = Path(os.environ.get('MMTRIAD_SHARED', Path(__file__).parents[3] / 'shared'))
    if not (root / 'reference').is_dir():
        pytest.skip(f'{root}/reference is absent: no reference outputs to compare with')
    return root / 'reference'
