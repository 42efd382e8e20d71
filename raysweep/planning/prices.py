"""Prices a cluster's nodes where its configuration says so: `metadata.prices_per_hour`, by node type.

Ray lets `metadata` pass and does not read it. Prices are in any one currency.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # comes with Ray

from raysweep.cluster.capacity import Node
from raysweep.errors import UsageError

KEY = "prices_per_hour"


def load_cluster(path: Path) -> dict[str, Any]:
    """Loads the cluster configuration in a file of YAML or JSON.

    Raises:
        UsageError: it is none.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:  # a date that is none is a ValueError
        raise UsageError(f"--cluster {path} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(config, dict):
        raise UsageError(f"--cluster {path} must be a cluster's configuration, got {type(config).__name__}")
    return config


def price_nodes(config: Mapping[str, Any], nodes: Sequence[Node]) -> dict[str, tuple[int, float]] | None:
    """Counts by type the nodes paid for while trials run on `nodes`, with the price of one; none: no prices.

    The head is always paid for. A node is of the type that has its CPUs and GPUs, else of the one type beside the head.

    Raises:
        UsageError: a price is wrong or missing, or the type of a node is not clear.
    """
    prices = (config.get("metadata") or {}).get(KEY)
    if prices is None:
        return None
    if not isinstance(prices, dict):
        raise UsageError(f"metadata.{KEY} must be prices by node type, got {prices!r}")
    types: Mapping[str, Any] = config.get("available_node_types") or {kind: {} for kind in prices}
    _check_prices(prices, types)
    head = config.get("head_node_type", "")
    counts = Counter(_find_type(node, types, head) for node in nodes)
    if head in types and not counts[head]:
        counts[head] = 1
    if unpriced := sorted(counts.keys() - prices.keys()):
        raise UsageError(f"metadata.{KEY} must have a price for each node type in use, got none for {unpriced}")
    return {kind: (count, float(prices[kind])) for kind, count in counts.items()}


def find_price(path: Path, nodes: Sequence[Node]) -> float | None:
    """Finds what nodes cost an hour; none where the cluster's configuration is not there, or has no prices for them."""
    if not path.is_file():
        return None
    try:
        prices = price_nodes(load_cluster(path), nodes)
    except UsageError:  # `plan` says what is wrong with it
        return None
    return None if prices is None else sum(count * price for count, price in prices.values())


def _check_prices(prices: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    for kind, price in prices.items():
        if kind not in types:
            raise UsageError(f"metadata.{KEY} names no node type {kind!r}; there are: {', '.join(types)}")
        if not isinstance(price, int | float) or isinstance(price, bool) or not price > 0:
            raise UsageError(f"metadata.{KEY}.{kind} must be a number above 0, got {price!r}")


def _find_type(node: Node, types: Mapping[str, Any], head: str) -> str:
    resources = {name: kind.get("resources") or {} for name, kind in types.items()}
    for name, has in resources.items():
        if has.get("CPU") == node.num_cpus and has.get("GPU", 0) == node.num_gpus:
            return name
    others = [name for name in types if name != head] or list(types)
    if len(others) > 1:
        raise UsageError(
            f"no node type has {node.num_cpus:g} CPUs and {node.num_gpus:g} GPUs, so that its price is not clear; give "
            "the types their `resources`, or plan on the cluster's head"
        )
    return others[0]
