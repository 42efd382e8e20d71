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
            "predict",
            "export",
            "publish",
            "serve",
            "fetch",
            "studies",
            "data",
            "new",
            "doctor",
        )
    },
)
"""Commands of click by their verbs."""
