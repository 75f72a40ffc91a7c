"""Install the `projects.*` namespace packages. Everything else stands in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import find_namespace_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildWithConfigs(build_py):
    """Put the configs into the wheel, where `projects.common.config_index` looks for them."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # the checkout has them
            return
        target = Path(self.build_lib, 'projects', 'common', '.mim')
        ignored = shutil.ignore_patterns('__pycache__')
        shutil.copytree(ROOT / 'configs', target / 'configs', ignore=ignored, dirs_exist_ok=True)
        shutil.copy(ROOT / 'model-index.yml', target)


setup(
    packages=find_namespace_packages(include=['projects.*']),
    package_data={'': ['py.typed']},
    cmdclass={'build_py': BuildWithConfigs},
)
