"""Provides the places where a fault can be brought about: a small disk, a cluster with a node to lose."""

import contextlib
import dataclasses
from collections.abc import Iterator

from raysweep.chaos.faults import Fault
from raysweep.chaos.nodes import SharedCluster, count_other_jobs, list_losable, open_own_cluster
from raysweep.chaos.small_disk import find_obstacle, open_small_disk
from raysweep.chaos.victim import Setting
from raysweep.errors import RaysweepError
from raysweep.run_folder import RunFolder, cache_folder

DISK_BYTES_MIN = 256 << 20
DISK_BYTES_MAX = 1 << 30
"""A small disk is in memory."""


class NotPossibleError(RaysweepError):
    """A fault that cannot be brought about here, which says nothing about the search."""


@contextlib.contextmanager
def open_setting(fault: Fault, setting: Setting, alone: RunFolder, *, is_named: bool) -> Iterator[Setting]:
    """Provides what the fault takes, where that harms nobody, or `is_named` by whoever asked.

    Raises:
        NotPossibleError: it cannot be had here.
    """
    setting = dataclasses.replace(setting, num_workers=fault.num_workers)
    if fault.needs in ("ray", "disk") and setting.is_shared:
        raise NotPossibleError(f"it would harm others at {setting.address}; --address local does it")
    if fault.needs == "disk":
        with _open_disk(setting, alone) as on_disk:
            yield on_disk
    elif fault.needs == "nodes" and setting.is_shared:
        _check_node_may_be_lost(fault, setting.address, is_named)
        yield dataclasses.replace(setting, nodes=SharedCluster())
    elif fault.needs == "nodes":
        with open_own_cluster() as own:
            yield dataclasses.replace(setting, address=own.address, environment=own.environment, nodes=own)
    else:
        yield setting


@contextlib.contextmanager
def _open_disk(setting: Setting, alone: RunFolder) -> Iterator[Setting]:
    """Provides a disk with room for the search, in memory; it shares the cache of decoded images."""
    folder = setting.storage / "small-disk"
    size = max(DISK_BYTES_MIN, 10 * sum(path.stat().st_size for path in alone.path.rglob("*") if path.is_file()))
    if size > DISK_BYTES_MAX:
        raise NotPossibleError(f"the study's checkpoints need a disk of {size / 1e9:.1f} GB in memory")
    if (obstacle := find_obstacle(folder)) is not None:
        raise NotPossibleError(f"no disk of its own without the right to mount one: {obstacle}")
    with open_small_disk(folder, size) as disk:
        cache_folder(disk.view).symlink_to(cache_folder(setting.storage))
        yield dataclasses.replace(setting, storage=folder, disk=disk)


def _check_node_may_be_lost(fault: Fault, address: str, is_named: bool) -> None:
    if not is_named:
        raise NotPossibleError(f"it takes a node from whoever uses {address}; --faults {fault.name} does it")
    if others := count_other_jobs():
        raise NotPossibleError(f"jobs of others, {others}, run at {address}")
    if not list_losable():
        raise NotPossibleError(f"{address} has no node beside the head and this one")
