"""Install the `projects.*` namespace packages. Everything else stands in pyproject.toml."""

from setuptools import find_namespace_packages, setup

setup(packages=find_namespace_packages(include=['projects.*']))
