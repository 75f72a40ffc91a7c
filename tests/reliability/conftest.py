"""The fixtures that run tools serve here too, and a toy whose loss is NaN where a test wants it."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).resolve().parent


def _load(name: str, path: Path) -> ModuleType:
    """A module by its path, once in a process."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


_tools = _load('tools_conftest', HERE.parent / 'tools' / 'conftest.py')
tool, tool_server = _tools.tool, _tools.tool_server
toy_config, free_port = _tools.toy_config, _tools.free_port


@pytest.fixture(scope='session')
def poisoned() -> ModuleType:
    """The module, registered."""
    _tools.load_toy()
    return _load('poisoned', HERE / 'poisoned.py')


@pytest.fixture(scope='session')
def kill_loop() -> ModuleType:
    """The module, for forks of this process."""
    return _load('kill_loop', HERE / 'kill_loop.py')


@pytest.fixture(scope='session')
def full_disk() -> ModuleType:
    """The module, for forks of this process."""
    return _load('full_disk', HERE / 'full_disk.py')
