"""Read the config text stored in checkpoints without executing it."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config

from .errors import InputError

__all__ = ['config_of_checkpoint', 'parse_config_text', 'parse_literal']


class _DictCalls(ast.NodeTransformer):
    """Rewrite ``dict(a=1)`` as ``{'a': 1}``, which ``ast.literal_eval`` accepts."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        is_dict = isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args
        if not is_dict or not all(keyword.arg for keyword in node.keywords):
            return node
        return ast.Dict(
            keys=[ast.Constant(keyword.arg) for keyword in node.keywords],
            values=[keyword.value for keyword in node.keywords],
        )


def _literal(node: ast.expr) -> Any:
    return ast.literal_eval(_DictCalls().visit(node))


def parse_literal(text: str) -> Any:
    """Return the value of a Python literal in which dicts may be written as ``dict(key=value)``.

    Raises:
        SyntaxError: The text is not an expression.
        ValueError: The expression is not a literal.
    """
    return _literal(ast.parse(text, mode='eval').body)


def parse_config_text(text: str, where: str) -> Config:
    """Parse the text of ``Config.pretty_text``, which may only assign plain values.

    MMEngine's ``Config.fromstring`` would execute the text as a Python file.

    Args:
        text: The text.
        where: The name of the text in error messages.

    Raises:
        ValueError: The text contains anything but assignments of numbers, strings and containers.
    """
    from mmengine.config import Config

    values: dict[str, Any] = {}
    try:
        for statement in ast.parse(text).body:
            if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
                raise InputError(f'line {statement.lineno} is no assignment')
            target = statement.targets[0]
            if not isinstance(target, ast.Name):
                raise InputError(f'line {statement.lineno} assigns to no plain name')
            values[target.id] = _literal(statement.value)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = ' '.join(str(error).split()) or 'nested too deeply'
        raise InputError(f'{where}: not a config of plain values ({reason})') from error
    return Config(values)


def config_of_checkpoint(checkpoint: dict, where: str) -> Config:
    """Return the config that MMEngine's runner stores in a checkpoint's ``meta``.

    Raises:
        ValueError: There is no config, or it contains more than plain values.
    """
    text = (checkpoint.get('meta') or {}).get('cfg')
    if not isinstance(text, str):
        raise InputError(f'{where}: carries no config; name one as `model`')
    return parse_config_text(text, f'{where}: its config')
