"""The fixtures that run tools serve here too."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

TESTS = Path(__file__).resolve().parents[1]


def _load(name: str, path: Path) -> ModuleType:
    """A module by its path, once in a process."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


_tools = _load('tools_conftest', TESTS / 'tools' / 'conftest.py')
tool, tool_server = _tools.tool, _tools.tool_server
toy_config, free_port = _tools.toy_config, _tools.free_port


@pytest.fixture(scope='session')
def full_disk() -> ModuleType:
    """The module, for forks of this process."""
    return _load('full_disk', TESTS / 'reliability' / 'full_disk.py')
