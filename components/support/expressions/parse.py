"""From an expression's text to a checked tree. Nothing is ever executed: Python's parser alone is used.

The grammar is Python's for expressions, of which these forms are taken: numbers, texts, True, False and
None; names; + - * / // % and the sign; comparisons, `in` a list of constants; and, or, not;
`a if c else b`; and calls of the functions in `functions.FUNCTIONS`.
"""

import ast
import difflib
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from slipway.components.support.expressions.functions import FUNCTIONS, OPERATORS, Type, resolve

MAX_LENGTH, MAX_NODES, MAX_DEPTH = 500, 100, 20
_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.And: "and", ast.Or: "or", ast.Not: "not", ast.USub: "negative", ast.In: "in",
}  # fmt: skip


class ExpressionError(ValueError):
    """What is wrong with an expression, in words for the person who wrote it."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A number, text or truth; None is missing."""

    value: float | str | bool | None

    @property
    def type(self) -> Type:
        """Its type."""
        if self.value is None:
            return "missing"
        if isinstance(self.value, bool):
            return "boolean"
        return "text" if isinstance(self.value, str) else "number"


@dataclass(frozen=True, slots=True)
class Name:
    """A column or feature."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function, or an operator by its sign, of some arguments."""

    function: str
    arguments: "tuple[Node, ...]"


Node = Constant | Name | Call


@lru_cache(4096)
def parse(text: str) -> Node:
    """Reads an expression.

    Raises:
        ExpressionError: it is none, is too long or too deep, or calls what is no function.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(
            f"the expression has {len(text)} characters, and may have {MAX_LENGTH}: name its parts"
        )
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "it cannot be read"
        raise ExpressionError(f"'{text}' is not an expression: {reason}") from error
    if sum(1 for _ in ast.walk(tree)) > 3 * MAX_NODES:
        raise ExpressionError(f"the expression has more than {MAX_NODES} parts: name some of them")
    made = _read(tree, 0)
    if sum(1 for _ in _walk(made)) > MAX_NODES:
        raise ExpressionError(f"the expression has more than {MAX_NODES} parts: name some of them")
    return made


def names(node: Node) -> list[str]:
    """The columns or features that an expression reads, each once."""
    return list(dict.fromkeys(n.name for n in _walk(node) if isinstance(n, Name)))


@lru_cache(4096)
def reads(text: str) -> tuple[str, ...]:
    """The names that an expression reads, from its text."""
    return tuple(names(parse(text)))


def type_of(node: Node, types: Mapping[str, Type | None]) -> Type | None:
    """An expression's type; None where it hangs on a column of an unknown type.

    Args:
        node: the expression.
        types: of the columns, None where a type is not known.

    Raises:
        ExpressionError: a name is unknown, or a function does not take what it is given.
    """
    if isinstance(node, Constant):
        return node.type
    if isinstance(node, Name):
        if node.name not in types:
            raise ExpressionError(unknown(node.name, types))
        return types[node.name]
    given = [type_of(argument, types) for argument in node.arguments]
    try:
        return resolve(node.function, tuple(given))
    except TypeError as error:
        raise ExpressionError(
            f"{error}, and is given {_shown(given)} in `{write(node)}`"
        ) from error


def unknown(name: str, there: Collection[str]) -> str:
    """What to say of a name that nothing has."""
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.6)
    hint = f" (did you mean {near[0]}?)" if near else ""
    listed = ", ".join(sorted(there)[:20]) + (", …" if len(there) > 20 else "")
    return f"there is no {name}{hint}; there are {listed or 'none'}"


def in_order(expressions: Mapping[str, str]) -> list[str]:
    """The names of expressions, each behind those that it reads.

    Raises:
        ExpressionError: some read each other in a circle.
    """
    done: dict[str, None] = {}
    path: list[str] = []

    def visit(name: str) -> None:
        if name in done or name not in expressions:
            return
        if name in path:
            circle = [*path[path.index(name) :], name]
            raise ExpressionError(f"{' reads '.join(circle)}: an expression cannot read itself")
        path.append(name)
        for read in reads(expressions[name]):
            visit(read)
        path.pop()
        done[name] = None

    for name in expressions:
        visit(name)
    return list(done)


def write(node: Node) -> str:
    """An expression as text, for messages."""
    if isinstance(node, Constant):
        return repr(node.value)
    if isinstance(node, Name):
        return node.name
    parts = [write(argument) for argument in node.arguments]
    if node.function in OPERATORS and len(parts) == 2:
        return f"({parts[0]} {node.function} {parts[1]})"
    return f"{node.function}({', '.join(parts)})"


def _shown(given: list[Type | None]) -> str:
    return ", ".join(kind or "a column" for kind in given)


def _walk(node: Node) -> Iterator[Node]:
    yield node
    if isinstance(node, Call):
        for argument in node.arguments:
            yield from _walk(argument)


def _read(tree: ast.AST, depth: int) -> Node:
    """One node of Python's tree as one of ours."""
    if depth > MAX_DEPTH:
        raise ExpressionError(f"the expression is more than {MAX_DEPTH} deep: name its parts")

    def read(part: ast.AST) -> Node:
        return _read(part, depth + 1)

    if isinstance(tree, ast.Constant):
        return _constant(tree.value)
    if isinstance(tree, ast.Name):
        return Name(tree.id)
    if isinstance(tree, ast.BinOp) and type(tree.op) in _OPERATORS:
        return Call(_OPERATORS[type(tree.op)], (read(tree.left), read(tree.right)))
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub | ast.Not):
        inner = read(tree.operand)
        if isinstance(inner, Constant) and inner.type == "number" and isinstance(tree.op, ast.USub):
            return Constant(-float(inner.value or 0.0))
        return Call(_OPERATORS[type(tree.op)], (inner,))
    if isinstance(tree, ast.BoolOp):
        return _joined(_OPERATORS[type(tree.op)], [read(value) for value in tree.values])
    if isinstance(tree, ast.Compare):
        return _comparison(tree, read)
    if isinstance(tree, ast.IfExp):
        return Call("if", (read(tree.test), read(tree.body), read(tree.orelse)))
    if isinstance(tree, ast.Call):
        return _call(tree, read)
    raise ExpressionError(f"`{ast.unparse(tree)}` is a form that no expression has")


def _constant(value: object) -> Constant:
    if value == "":
        raise ExpressionError("an empty text counts as missing: write is_missing(…), or None")
    if value is None or isinstance(value, bool | str):
        return Constant(value)
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return Constant(number)
    raise ExpressionError(f"{value!r} is no number, text, True, False or None")


def _joined(operator: str, nodes: list[Node]) -> Node:
    made = nodes[0]
    for node in nodes[1:]:
        made = Call(operator, (made, node))
    return made


def _comparison(tree: ast.Compare, read: Callable[[ast.AST], Node]) -> Node:
    sides = [tree.left, *tree.comparators]
    made: list[Node] = []
    for operator, left, right in zip(tree.ops, sides, sides[1:], strict=False):
        if isinstance(operator, ast.In | ast.NotIn):
            if not isinstance(right, ast.List | ast.Tuple) or not right.elts:
                raise ExpressionError("`in` needs a list of constants, as in `plan in ['a', 'b']`")
            mine = read(left)
            found = _joined("or", [_compared("==", mine, read(value)) for value in right.elts])
            made.append(Call("not", (found,)) if isinstance(operator, ast.NotIn) else found)
        elif type(operator) in _OPERATORS:
            made.append(_compared(_OPERATORS[type(operator)], read(left), read(right)))
        else:
            raise ExpressionError("`is` compares nothing here: write == or is_missing(…)")
    return _joined("and", made)


def _compared(operator: str, left: Node, right: Node) -> Call:
    """A comparison; of what is missing it would be missing in each row."""
    for side in (left, right):
        if isinstance(side, Constant) and side.value is None:
            raise ExpressionError(f"nothing is {operator} None, not even None: write is_missing(…)")
    return Call(operator, (left, right))


def _call(tree: ast.Call, read: Callable[[ast.AST], Node]) -> Node:
    name = tree.func.id if isinstance(tree.func, ast.Name) else ast.unparse(tree.func)
    if name not in FUNCTIONS or name in OPERATORS:
        callable_names = [known for known in FUNCTIONS if known not in OPERATORS]
        raise ExpressionError(f"{name} is no function: {unknown(name, callable_names)}")
    if tree.keywords or any(isinstance(argument, ast.Starred) for argument in tree.args):
        raise ExpressionError(f"{name} takes its arguments in order, without names")
    call = Call(name, tuple(read(argument) for argument in tree.args))
    if problem := FUNCTIONS[name].refuse(
        [a.value if isinstance(a, Constant) else Ellipsis for a in call.arguments]
    ):
        raise ExpressionError(f"{name} {problem}, in `{write(call)}`")
    return call
