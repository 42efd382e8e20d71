"""Builds the report's sections on where its figures come from, and how to get them again."""

import shlex

from raysweep import file_guard
from raysweep.errors import RaysweepError
from raysweep.report.run_view import RunView
from raysweep.report.section import Section, render, render_table
from raysweep.search.flags import list_flags
from raysweep.search.options import DEFAULT_STORAGE
from raysweep.search.overrides import Overrides

MAX_SKIPPED = 200
"""Files left out that are listed; of more the number is said."""


def build_provenance_sections(view: RunView) -> list[Section]:
    """Returns data, versions, machine, seed and openings, the command, and the files that were left out."""
    sections = [
        Section(
            title="Where the figures come from",
            how_to_read="The same data, seed and versions give the same trials on one worker.",
            html=render("provenance.html", facts=_list_facts(view), command=build_command(view)),
        )
    ]
    info = view.info
    if info is not None and info.skipped:
        rows = [[skipped.path, skipped.split, skipped.reason] for skipped in info.skipped[:MAX_SKIPPED]]
        more = f", the first {MAX_SKIPPED}" * (len(info.skipped) > MAX_SKIPPED)
        sections.append(
            Section(
                title=f"Files that could not be decoded ({len(info.skipped):,})",
                how_to_read="They are in no split.",
                html=render_table({"file": "", "split": "", "reason": ""}, rows, f"{len(info.skipped):,} files{more}"),
                is_folded=True,
            )
        )
    return sections


def build_command(view: RunView) -> str:
    """Builds the command that repeats the run, on what is there by default, beside it in its storage."""
    identity, storage = view.record.identity, view.folder.storage.resolve()
    overrides = identity.overrides
    words = ["python", "-m", "platform.tune", identity.study_argument or str(view.study["name"])]
    for flag in list_flags(Overrides):
        value = getattr(overrides, flag.field)
        if value is None or value == ():
            continue
        if flag.field == "time_s":
            value = f"{value:.12g}s"
        for part in value if isinstance(value, tuple) else (value,):
            words += [flag.names[0], str(part)]
    if storage != DEFAULT_STORAGE.resolve():
        words += ["--storage", str(storage)]
    return shlex.join([*words, "--name", f"{view.folder.path.name}-again"])


def _list_facts(view: RunView) -> list[tuple[str, str]]:
    info, results, record = view.info, view.results, view.record
    facts = [("images", f"{view.study['data']['source']}")]
    if info is not None:
        facts.append(
            (
                "how many",
                f"{info.num_train:,} training, {info.num_val:,} validation, {info.num_test:,} test images, of "
                f"{len(info.classes):,} classes",
            )
        )
        facts += [("note", note) for note in info.notes]
    facts += [
        ("digest of the images (SHA-256)", record.data_digest),
        ("seed", str(view.study["seed"])),
        ("versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())),
    ]
    if results is not None:
        machine = results.machine
        gpus = f", {machine.num_gpus:g} GPU{'s' * (machine.num_gpus != 1)}" if machine.num_gpus else ", no GPU"
        nodes = f"{machine.num_nodes} node{'s' * (machine.num_nodes != 1)}"
        facts.append(("machine", f"{nodes}, {machine.num_cpus:g} CPUs ({machine.processor}){gpus}"))
    facts.append(("run", f"{view.folder.path.name}, id {record.identity.run_id}"))
    return [*facts, *_list_openings(view)]


def _list_openings(view: RunView) -> list[tuple[str, str]]:
    """Lists when the test images were opened, and why."""
    try:
        rows = file_guard.read_json_lines(view.folder.openings, "the openings of the test split")
    except RaysweepError as error:
        return [("openings of the test images", str(error))]
    if not rows:
        return [("openings of the test images", "none yet")]
    return [("test images opened", f"{row.get('opened', '?')}, {row.get('reason', '?')}") for row in rows]
