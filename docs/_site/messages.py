"""Every message of ours, read from the code: what is raised, and where. Run it to renew the page.

The list is committed, so that it shows in a repository's browser too; `make compile` renews it.
"""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "start" / "troubleshooting.md"
MARK = "<!-- every error: from the code, by `make compile` -->\n"
# Where messages come from: folder of the repository to the heading of its table.
ROOMS = {
    "components/config": "The project file",
    "components/ingest": "ingest",
    "components/validate": "validate, and the schema file",
    "components/features": "features",
    "components/train": "train",
    "components/evaluate": "evaluate",
    "components/register": "register",
    "components/deploy": "deploy",
    "components/monitor": "monitor",
    "components/contracts": "What one stage hands the next",
    "components/metrics": "Labels and metrics",
    "components/support": "Files, stores, servers",
    "serving": "The predictor",
    "local/guess": "slipway init",
    "local": "A run on this machine",
    "cluster": "A Kubeflow server",
    "pipelines": "Compiling",
    "stack": "Manifests",
    "commands": "Commands",
}
ERRORS = {"SlipwayError", "ProjectError", "ValueError", "Question", "Refused", "NoAnswer", "Unfit"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as a person sees it, with … for what is put in.

    Attributes:
        text: of the message.
        place: file of the repository that raises it.
    """

    text: str
    place: str


def read_messages(folder: Path, root: Path) -> list[Message]:
    """All messages of a room, by file and line."""
    found: dict[str, Message] = {}
    for path in sorted(folder.rglob("*.py")):
        place = path.relative_to(root).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        known = _texts(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                text = _told(node.exc.args, known) if _is_ours(node.exc) else ""
                if len(re.sub(r"[^A-Za-z]", "", text)) > 12:
                    found.setdefault(text, Message(text=text, place=place))
    return list(found.values())


def _is_ours(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name in ERRORS or name.endswith(("Error", "Refusal"))


def _texts(tree: ast.AST) -> dict[str, ast.expr]:
    """Variables that a text is put into, so that a message made of parts is shown whole."""
    return {
        node.targets[0].id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.JoinedStr | ast.Constant)
        and (isinstance(node.value, ast.JoinedStr) or isinstance(node.value.value, str))
    }


def _told(arguments: list[ast.expr], known: dict[str, ast.expr]) -> str:
    texts = [_text(argument, known, 0) for argument in arguments]
    longest = max(texts, key=len)
    return " ".join(longest.split())


def _text(node: ast.expr, known: dict[str, ast.expr], depth: int) -> str:
    """A message's text; what is only known while it runs is an ellipsis."""
    match node:
        case ast.Constant(value=str() as value):
            return value
        case ast.JoinedStr(values=values):
            return "".join(_text(value, known, depth) for value in values)
        case ast.FormattedValue(value=ast.Name(id=name)) if name in known and depth < 2:
            return _text(known[name], known, depth + 1)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left, known, depth) + _text(right, known, depth)
        case _:
            return "…"


def tables(root: Path) -> str:
    """Markdown: a heading and a table for each room that raises a message."""
    parts = []
    for folder, title in ROOMS.items():
        inner = [root / other for other in ROOMS if other.startswith(f"{folder}/")]
        rows = [
            message
            for message in read_messages(root / folder, root)
            if not any((root / message.place).is_relative_to(other) for other in inner)
        ]
        if rows:
            parts.append(f"### {title}\n\n| message | raised in |\n| --- | --- |\n")
            parts += [f"| {escaped(row.text)} | `{row.place}` |\n" for row in rows]
            parts.append("\n")
    return "".join(parts)


def escaped(text: str) -> str:
    """A message as a cell of a Markdown table shows it."""
    return re.sub(r"([|*_<>\[\]`#~])", r"\\\1", text)


def renewed(text: str) -> str:
    """The page with the messages of the code as it is; they are the last thing on it."""
    return text.partition(MARK)[0] + MARK + "\n" + tables(ROOT).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
