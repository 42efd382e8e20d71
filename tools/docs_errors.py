"""Lists the messages of the errors that raysweep raises, as they stand in its code, for the page of errors."""

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from raysweep import errors

PACKAGE = Path(errors.__file__).parent
KINDS: Mapping[str, type[errors.RaysweepError]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.RaysweepError) and kind is not errors.RaysweepError
}
RULES = "require"
"""The function that refuses values of fields: its second argument is the rule."""
MIN_WORDS = 4
"""A message with fewer words of its own says nothing without what is put into it."""


def build_errors() -> str:
    """Builds the list of messages, by the kind of error and the part of the package that raises it."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    rules: dict[str, set[str]] = defaultdict(set)
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for kind, message in list_messages(ast.parse(path.read_text(encoding="utf-8"))):
            (rules[room] if kind == RULES else found[kind][room]).add(message)
    parts = []
    for kind, rooms in found.items():
        doc = " ".join((KINDS[kind].__doc__ or "").split())
        parts.append(f"## {kind}\n\n{doc} Exit code {KINDS[kind].exit_code}.\n\n{_list_rooms(rooms)}")
    about = "Each ends with `, got` and the value. Exit code 2 in a study or after `--set`."
    return "\n".join([*sorted(parts), f"## Values of fields and flags\n\n{about}\n\n{_list_rooms(rules)}"])


def _list_rooms(rooms: Mapping[str, set[str]]) -> str:
    lines = []
    for room in sorted(rooms):
        lines += [f"**{room}**\n", *(f"- {message}" for message in sorted(rooms[room])), ""]
    return "\n".join(lines)


def list_messages(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yields kind and text of each error that is raised with a text of its own."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        texts = {
            target.id: node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(function):
            call = node.exc if isinstance(node, ast.Raise) else node
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
                continue
            name = call.func.id
            if name in KINDS and isinstance(node, ast.Raise) and call.args:
                argument = call.args[0]
            elif name == RULES and len(call.args) > 1:
                argument = call.args[1]
            else:
                continue
            if isinstance(argument, ast.Name):
                argument = texts.get(argument.id, argument)
            message = " ".join(render(argument).split())
            if len([word for word in message.split() if not word.startswith("*")]) >= MIN_WORDS:
                yield name, message


def render(node: ast.expr) -> str:
    """Returns the text of a message in Markdown, with the names of what is put into it in italics."""
    if isinstance(node, ast.Constant):
        return _escape(str(node.value))
    if isinstance(node, ast.JoinedStr):
        return "".join(render(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return render(node.left) + render(node.right)
    inner: ast.expr = node.value if isinstance(node, ast.FormattedValue) else node
    while isinstance(inner, ast.Call) and inner.args:
        inner = inner.args[0]
    names = [each for each in ast.walk(inner) if isinstance(each, ast.Name | ast.Attribute)]
    name = (names[0].id if isinstance(names[0], ast.Name) else names[0].attr) if names else "value"
    return f"*{_escape(name.strip('_'))}*"


def _escape(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "*_<>[]`\\|" else letter for letter in text)
