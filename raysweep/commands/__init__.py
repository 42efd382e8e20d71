"""The commands of the command line, a file for each."""

from raysweep.registry import Registry

COMMANDS = Registry(
    "raysweep.commands",
    "command",
    {
        verb: f"raysweep.commands.{verb}:{verb}"
        for verb in (
            "tune",
            "plan",
            "status",
            "control",
            "evaluate",
            "report",
            "predict",
            "export",
            "publish",
            "serve",
            "fetch",
            "runs",
            "show",
            "compare",
            "replay",
            "clean",
            "studies",
            "data",
            "new",
            "doctor",
        )
    },
)
"""Commands of click by their verbs."""
