"""Builds the reference pages of docs/ from the code: fields, flags, metrics, files of a run, names, public functions.

Each function of PARTS returns Markdown that takes the place of `<!-- reference: NAME -->` in a page; see docs_site.
"""

import ast
import dataclasses
import importlib
import inspect
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

import raysweep
from raysweep.catalogue import list_studies, load_study
from raysweep.commands import COMMANDS
from raysweep.config import Budget, DataConfig, Objective, TrainingConfig
from raysweep.data.sources import SOURCES
from raysweep.registry import Registry
from raysweep.run_folder import RunFolder
from raysweep.search.flags import read_docstrings
from raysweep.search.strategy.pruners import PRUNERS
from raysweep.search.strategy.samplers import SAMPLERS
from raysweep.study import Study
from raysweep.task_config import TaskConfig
from raysweep.tasks import TASKS

RUN = Path("STORAGE/NAME")
"""Stands for the folder of a run."""
SAMPLE_ARGUMENTS: Mapping[str, tuple[Any, ...]] = {
    "trial": (7,),
    "sample": (3,),
    "code": ("my_networks.py", "1a2b3c4d5e6f"),
    "command": ("MESSAGE",),
    "answer": ("MESSAGE",),
}
"""By methods of folders that take some: what the tables show."""
RESULTS = (
    ("results.json", "raysweep.search.results:Results"),
    ("Each of trials, best and baseline", "raysweep.trial_result:TrialResult"),
    ("test", "raysweep.evaluate.test_figures:TestFigures"),
    ("finalists", "raysweep.search.results:FinalistsRecord"),
    ("Each of finalists.configurations", "raysweep.search.results:FinalistRecord"),
    ("data", "raysweep.data.images:DataInfo"),
)


def build_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Builds a table of Markdown."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"

    head = list(head)
    return "\n".join([line(head), line("---" for _ in head), *(line(row) for row in rows)]) + "\n"


def read_summary(thing: object) -> str:
    """Returns the first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


def describe_type(kind: Any) -> str:
    """Says for a person what values a field takes."""
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(kind))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe_type(part) for part in typing.get_args(kind))
    if kind is types.NoneType:
        return "none"
    if origin is not None:
        return {tuple: "a list"}.get(origin, "a mapping")
    names = {int: "a whole number", float: "a number", str: "text", bool: "`true`, `false`"}
    return names.get(kind, f"`{getattr(kind, '__name__', kind)}`")


def describe_default(field: "dataclasses.Field[Any]") -> str:
    """Says what a field is where nothing is said."""
    value = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
    if value is dataclasses.MISSING:
        return "has to be given"
    if dataclasses.is_dataclass(value):
        return "its own defaults"
    if value is None or value == ():
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def build_field_table(kind: type[Any], prefix: str = "") -> str:
    """Builds the table of a dataclass's fields, and those of the dataclasses in it below."""
    annotations, docs = typing.get_type_hints(kind), read_docstrings(kind)
    rows, nested = [], []
    for field in dataclasses.fields(kind):
        name = f"{prefix}{field.name}"
        if prefix and dataclasses.is_dataclass(annotations[field.name]):
            nested.append((name, annotations[field.name], docs.get(field.name, "")))
            continue
        values = describe_type(annotations[field.name])
        rows.append((f"`{name}`", values, describe_default(field), docs.get(field.name, "")))
    table = build_table(("field", "values", "default", "meaning"), rows)
    below = [f"\n`{name}.`: {text}\n\n{build_field_table(inner, f'{name}.')}" for name, inner, text in nested]
    return table + "".join(below)


def build_fields() -> str:
    """Builds the tables of all that a space or `--set` can name."""
    parts = [(f"task of {kind}", TASKS.load(kind), "task.") for kind in sorted(TASKS.built_in)] + [
        ("data", DataConfig, "data."),
        ("training", TrainingConfig, "training."),
    ]
    return "\n".join(
        f"## {name}\n\n{read_summary(kind)}\n\n{build_field_table(kind, prefix)}" for name, kind, prefix in parts
    )


def build_study() -> str:
    """Builds the tables of what a study file is made of."""
    return "\n".join(
        f"### {kind.__name__}\n\n{read_summary(kind)}\n\n{build_field_table(kind)}"
        for kind in (Study, raysweep.When, Objective, Budget)
    )


def build_studies() -> str:
    """Builds a table of the space of each study."""
    found = []
    for name, path in list_studies().items():
        study = load_study(str(path))
        goal = ", ".join(f"{objective.direction} `{objective.metric}`" for objective in study.objectives)
        rows = [
            (f"`{key}`", f"`{distribution}`", f"`{study.baseline[key]}`" if key in study.baseline else "")
            for key, distribution in study.all_distributions()
        ]
        about = f"{study.task.kind} on `{study.data.source}`: {goal}; {study.budget.trials} trials."
        found.append(f"## {name}\n\n{about}\n\n{build_table(('key', 'searched in', 'baseline'), rows)}")
    return "\n".join(found)


def build_metrics() -> str:
    """Builds the tables of the metrics that the tasks declare."""
    found = []
    for kind in sorted(TASKS.built_in):
        configs = [TASKS.load(kind)(), *_VARIANTS.get(kind, lambda _: [])(TASKS.load(kind))]
        metrics = {metric.name: metric for config in configs for metric in config.metrics}
        rows = [(f"`{metric.name}`", metric.direction or "", metric.meaning) for metric in metrics.values()]
        found.append(f"## {kind}\n\n{build_table(('metric', 'better', 'meaning'), rows)}")
    return "\n".join(found)


_VARIANTS: Mapping[str, Callable[[Any], list[TaskConfig]]] = {
    "autoencoder": lambda kind: [kind(variant="variational", bottleneck="dense")],
    "gan": lambda kind: [kind(loss="wasserstein_gp")],
}
"""Configurations that declare further metrics."""


def build_commands() -> str:
    """Builds the usage, text and options of each command."""
    found = []
    for verb in COMMANDS.built_in:
        command = COMMANDS.load(verb)
        context = click.Context(command, info_name=f"python -m platform.{verb}")
        usage = " ".join(command.get_usage(context).removeprefix("Usage: ").split())
        text = inspect.cleandoc(command.help or "")
        rows = [_describe_option(option, context) for option in command.params if isinstance(option, click.Option)]
        table = build_table(("flag", "default", "meaning"), rows) if rows else ""
        epilog = f"\n{command.epilog}\n" if command.epilog else ""
        found.append(f"## {verb}\n\n```text\n{textwrap.fill(usage, 100)}\n```\n\n{text}\n\n{table}{epilog}")
    return "\n".join(found)


def _describe_option(option: click.Option, context: click.Context) -> tuple[str, str, str]:
    metavar = "" if option.is_flag else f" {option.make_metavar(context)}"
    shows = not option.is_flag and isinstance(option.default, int | float | str | Path)
    return f"`{', '.join(option.opts)}{metavar}`", f"`{option.default}`" if shows else "", option.help or ""


def build_run_folder() -> str:
    """Builds the table of the files and folders of a run."""
    rows: dict[str, str] = {}
    _list_paths(RunFolder(RUN), rows, {})
    return build_table(("path", "what it is"), [(f"`{path}`", rows[path]) for path in sorted(rows)])


def _list_paths(folder: Any, rows: dict[str, str], shown: dict[type, str]) -> None:
    """Adds what the properties and methods of a folder's class locate; a second folder of one refers to the first."""
    for kind in reversed(type(folder).__mro__):
        for name, member in vars(kind).items():
            if isinstance(member, property):
                located = getattr(folder, name)
            elif name in SAMPLE_ARGUMENTS and inspect.isfunction(member):
                located = getattr(folder, name)(*SAMPLE_ARGUMENTS[name])
            else:
                continue
            path = located if isinstance(located, Path) else getattr(located, "path", None)
            if path is None:
                continue
            place = str(path).removeprefix(f"{RUN}/")
            text = read_summary(member).removeprefix("Locates ").removeprefix("Returns ")
            rows.setdefault(place, text[0].upper() + text[1:])
            if isinstance(located, Path):
                continue
            if type(located) in shown:
                rows[place] += f" Its files are those of `{shown[type(located)]}`."
            else:
                shown[type(located)] = place
                _list_paths(located, rows, shown)


def build_results() -> str:
    """Builds the tables of the keys of results.json."""
    found = []
    for name, reference in RESULTS:
        module, _, kind = reference.partition(":")
        loaded = getattr(importlib.import_module(module), kind)
        docs = read_docstrings(loaded)
        rows = [(f"`{field.name}`", docs.get(field.name, "")) for field in dataclasses.fields(loaded)]
        found.append(f"**{name}.** {read_summary(loaded)}\n\n{build_table(('key', 'meaning'), rows)}")
    return "\n".join(found)


def build_names() -> str:
    """Builds the tables of the names that flags take, and of the groups of entry points beside them."""
    found = []
    for title, registry in (("Samplers", SAMPLERS), ("Pruners", PRUNERS), ("Sources", SOURCES), ("Tasks", TASKS)):
        rows = [(f"`{name}`", read_module_summary(registry, name)) for name in registry.built_in]
        table = build_table(("name", "what it is"), rows)
        found.append(f"## {title}\n\nEntry points of packages: `{registry.group}`.\n\n{table}")
    return "\n".join(found)


def read_module_summary(registry: Registry, name: str) -> str:
    """Returns the first line of the docstring of what a name stands for, else of its module, which is not imported."""
    module, _, target = registry.built_in[name].partition(":")
    spec = find_spec(module)
    tree = ast.parse(Path(str(spec and spec.origin)).read_text(encoding="utf-8"))
    texts = [
        ast.get_docstring(node)
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == target
    ]
    text = ast.get_docstring(tree) or next(filter(None, texts), "")
    return " ".join(text.partition("\n\n")[0].split())


def build_python() -> str:
    """Builds the table of the public names."""
    rows = []
    for name in sorted(set(raysweep.__all__) - {"__version__"}):
        thing = getattr(raysweep, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            rows.append((f"`raysweep.{name}`", read_summary(thing)))
    return build_table(("name", "what it is or does"), rows)


def build_faults() -> str:
    """Builds the table of the faults of `doctor --chaos`."""
    from raysweep.chaos.faults import FAULTS

    rows = [(f"`{name}`", read_summary(fault.strike)) for name, fault in FAULTS.items()]
    return build_table(("fault", "what is done to the search"), rows)


PARTS: Mapping[str, Callable[[], str]] = {
    "fields": build_fields,
    "study": build_study,
    "studies": build_studies,
    "metrics": build_metrics,
    "commands": build_commands,
    "run_folder": build_run_folder,
    "results": build_results,
    "names": build_names,
    "python": build_python,
    "faults": build_faults,
}
"""By the name in a page."""
