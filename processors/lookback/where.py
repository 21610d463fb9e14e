"""A small, safe language of conditions over results: `outcome == 'read' and confidence < 0.5`.

Python's own grammar, of which little is let in: names, numbers, texts, lists, comparisons, `in`, `and`, `or`, `not`, and
+ - * / between numbers. Nothing is called, indexed or reached by a dot. What is missing compares as false, and equals None.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.errors import ConfigurationError

_LONGEST = 500
_NODES_MOST = 120

_COMPARE: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_COUNT: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_LET_IN = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.Compare, ast.Eq, ast.NotEq, ast.In,
    ast.NotIn, ast.Is, ast.IsNot, ast.BinOp, ast.Name, ast.Load, ast.Constant, ast.List, ast.Tuple, *_COMPARE, *_COUNT,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """A condition that was read; `names` are the names in it."""

    text: str
    names: frozenset[str]
    tree: ast.expr

    def holds(self, fields: Mapping[str, Any]) -> bool:
        """Whether it holds for these fields.

        Raises:
            ConfigurationError: it compares or counts with what cannot be.
        """
        return bool(_value(self.tree, fields))


def parse_where(text: str) -> Where:
    """Read a condition.

    Raises:
        ConfigurationError: it is none, too long, or wants what is not let in.
    """
    if len(text) > _LONGEST:
        raise _refused(f"it has {len(text)} signs, and {_LONGEST} are let in")
    try:
        parsed = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _refused(f"{text!r} is no condition: {error}") from error
    nodes = list(ast.walk(parsed))
    if len(nodes) > _NODES_MOST:
        raise _refused("it has too many parts")
    for node in nodes:
        if not isinstance(node, _LET_IN):
            raise _refused(f"{type(node).__name__} is not let in")
        if isinstance(node, ast.Constant) and not isinstance(node.value, (str, int, float, bool, type(None))):
            raise _refused(f"{node.value!r} is not let in")
    names = frozenset(n.id for n in nodes if isinstance(n, ast.Name))
    if not names:
        raise _refused("it names nothing of a result")
    return Where(text=text, names=names, tree=parsed.body)


def _value(node: ast.expr, fields: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return fields.get(node.id)
        case ast.List() | ast.Tuple():
            return [_value(e, fields) for e in node.elts]
        case ast.BoolOp(op=ast.And()):
            return all(_value(v, fields) for v in node.values)
        case ast.BoolOp():
            return any(_value(v, fields) for v in node.values)
        case ast.UnaryOp(op=ast.Not()):
            return not _value(node.operand, fields)
        case ast.UnaryOp():
            return _counted(operator.sub, 0, _value(node.operand, fields))
        case ast.BinOp():
            return _counted(_COUNT[type(node.op)], _value(node.left, fields), _value(node.right, fields))
        case ast.Compare():
            return _compared(node, fields)
    raise AssertionError(f"{type(node).__name__} was let in and has no meaning")


def _compared(node: ast.Compare, fields: Mapping[str, Any]) -> bool:
    left = _value(node.left, fields)
    for op, right_node in zip(node.ops, node.comparators, strict=True):
        right = _value(right_node, fields)
        if not _one(op, left, right):
            return False
        left = right
    return True


def _one(op: ast.cmpop, left: Any, right: Any) -> bool:
    match op:
        case ast.Eq() | ast.Is():
            return bool(left == right)
        case ast.NotEq() | ast.IsNot():
            return bool(left != right)
        case ast.In() | ast.NotIn():
            within = right is not None and _within(left, right)
            return within if isinstance(op, ast.In) else not within
    if left is None or right is None:
        return False
    try:
        return bool(_COMPARE[type(op)](left, right))
    except TypeError as error:
        raise _refused(f"{left!r} and {right!r} cannot be compared") from error


def _within(left: Any, right: Any) -> bool:
    if isinstance(right, str):
        return isinstance(left, str) and left in right
    if not isinstance(right, (list, tuple)):
        raise _refused(f"nothing can be in {right!r}")
    return left in right


def _counted(count: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """Arithmetic on numbers; with what is missing, or by zero, it gives what is missing."""
    if left is None or right is None:
        return None
    if not all(isinstance(v, (int, float)) for v in (left, right)):
        raise _refused(f"{left!r} and {right!r} are not both numbers")
    try:
        return count(left, right)
    except (ZeroDivisionError, OverflowError):
        return None


def _refused(why: str) -> ConfigurationError:
    return ConfigurationError(f"--where: {why}", setting="--where", do="see docs/how-to/bisect.md for what can be asked")
