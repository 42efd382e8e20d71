"""Judges the doctor's facts: pure functions, facts in, findings out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raysweep.cluster.capacity import Node, Request, count_concurrent_trials
from raysweep.errors import UsageError

LOOPBACK = ("127.", "localhost", "[::1]")
SET_UP_AGAIN = "ray up CLUSTER.yaml   # installs requirements.lock on every node and starts Ray there again"


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeFacts:
    """Facts that a node reports about itself."""

    node_id: str
    address: str
    versions: Mapping[str, str]
    """Versions of Python and the packages that must be the same everywhere; one that is not installed is missing."""
    code: str
    """Digest of the raysweep that its workers import."""
    authenticated: bool
    """Whether Ray takes commands only with the token there."""
    visible_gpus: int
    """Number of GPUs that torch sees."""
    has_mps: bool = False
    """Whether NVIDIA MPS serves it."""
    write_error: str = ""
    """Why the node could not write to the storage; "" when it could."""
    unreadable: Sequence[str] = ()
    """Files of the data that it cannot read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line of the doctor's report."""

    check: str
    ok: bool
    text: str
    mend: str = ""
    """The command that puts it right."""

    def __str__(self) -> str:
        line = f"{'ok' if self.ok else 'WRONG':<6}{self.check:<17}{self.text}"
        return f"{line}; mend: {self.mend}" if self.mend else line


def check_answers(answered: Sequence[str], silent: Sequence[str], nodes: Sequence[Node]) -> Finding:
    """Checks that every node that Ray counts as alive runs a task. `answered`, `silent`: the nodes' addresses."""
    if silent:
        return Finding(
            check="nodes",
            ok=False,
            text=f"{_count(silent, 'node')} of {len(answered) + len(silent)} run no task: {', '.join(silent)}",
            mend="ray logs raylet.err --node-ip " + silent[0],
        )
    cpus, gpus = sum(node.num_cpus for node in nodes), sum(node.num_gpus for node in nodes)
    return Finding(check="nodes", ok=True, text=f"{_count(answered, 'node')}, {cpus:g} CPUs, {gpus:g} GPUs")


def check_versions(facts: Sequence[NodeFacts], driver: Mapping[str, str]) -> Finding:
    """Checks that every node has the driver's Python, Ray and libraries."""
    wrong = []
    for node in facts:
        differing = [
            f"{name} {node.versions.get(name, 'missing')} (here {version})"
            for name, version in driver.items()
            if node.versions.get(name) != version
        ]
        if differing:
            wrong.append(f"{node.address} has {', '.join(differing)}")
    if wrong:
        return Finding(check="versions", ok=False, text="; ".join(wrong), mend=SET_UP_AGAIN)
    return Finding(check="versions", ok=True, text=", ".join(f"{name} {version}" for name, version in driver.items()))


def check_code(facts: Sequence[NodeFacts], driver: str) -> Finding:
    """Checks that every worker imports the driver's raysweep."""
    wrong = [node.address for node in facts if node.code != driver]
    if wrong:
        return Finding(
            check="raysweep",
            ok=False,
            text=f"another raysweep than here ({driver}) is imported on {', '.join(wrong)}",
            mend="ray up CLUSTER.yaml   # and start the study without a runtime_env of your own",
        )
    return Finding(check="raysweep", ok=True, text=f"workers import what is here ({driver})")


def check_authentication(facts: Sequence[NodeFacts], driver: bool) -> Finding:
    """Checks that Ray takes commands only with the token, on every node and here."""
    open_nodes = [node.address for node in facts if not node.authenticated] + ([] if driver else ["here"])
    if open_nodes:
        return Finding(
            check="authentication",
            ok=False,
            text=f"off: {', '.join(open_nodes)}; whoever reaches Ray's ports can run commands",
            mend="ray get-auth-token --generate; ray up CLUSTER.yaml   # RAY_AUTH_MODE=token in its start commands",
        )
    return Finding(check="authentication", ok=True, text="by token on every node")


def check_dashboard(url: str, *, in_pod: bool) -> Finding:
    """Checks that the dashboard listens on this machine only. `url`: host:port, or "" where there is none.

    In a pod of Kubernetes it has to be reached from outside: KubeRay's operator hands jobs in there, with the token.
    """
    if url and in_pod:
        return Finding(check="dashboard", ok=True, text=f"on {url}, the pod's address, for KubeRay's operator")
    if url and not url.startswith(LOOPBACK):
        return Finding(
            check="dashboard",
            ok=False,
            text=f"reached from outside at {url}",
            mend="ray start --head --dashboard-host=127.0.0.1   # and from elsewhere: ray dashboard CLUSTER.yaml",
        )
    return Finding(check="dashboard", ok=True, text=f"on {url} only" if url else "none")


def check_storage(storage: str, facts: Sequence[NodeFacts], unseen: Sequence[tuple[str, str]]) -> Finding:
    """Checks that every node reads any node's files. `unseen`: pairs (who read, who had written), by address."""
    cannot = [f"{node.address} cannot write there ({node.write_error})" for node in facts if node.write_error]
    wrong = cannot or [f"{reader} does not see what {writer} wrote" for reader, writer in unseen]
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        return Finding(
            check="storage",
            ok=False,
            text=f"{storage}: {'; '.join(wrong[:3])}{more}",
            mend="--storage DIR with a folder that all nodes share; clusters/setup_node.sh mounts one",
        )
    return Finding(check="storage", ok=True, text=f"{storage}: written and read by {_count(facts, 'node')}")


def check_resources(nodes: Sequence[Node], request: Request) -> Finding:
    """Checks that at least one trial of the size asked for fits."""
    size = f"{_count(range(request.num_workers), 'worker')} of {request.cpus_per_worker:g} CPUs"
    size += f" and {request.gpus_per_worker:g} GPUs" if request.gpus_per_worker else ""
    try:
        concurrency = count_concurrent_trials(nodes, request)
    except UsageError as error:
        arithmetic, _, mend = str(error).rpartition("; ")
        return Finding(check="resources", ok=False, text=arithmetic, mend=mend)
    return Finding(check="resources", ok=True, text=f"a trial is {size}: {concurrency} run side by side")


def check_gpus(facts: Sequence[NodeFacts], counted: Mapping[str, float]) -> Finding:
    """Checks that torch can use every GPU that Ray gives out. `counted`: Ray's number by node id."""
    wrong = [
        f"{node.address}: Ray counts {counted[node.node_id]:g}, torch sees {node.visible_gpus}"
        for node in facts
        if node.visible_gpus < counted[node.node_id]
    ]
    if wrong:
        mend = "nvidia-smi   # on that node: a driver older than the CUDA of requirements.lock hides its GPUs"
        return Finding(check="GPUs", ok=False, text="; ".join(wrong), mend=mend)
    total = sum(counted[node.node_id] for node in facts)
    return Finding(check="GPUs", ok=True, text=f"torch sees all {total:g}" if total else "none")


def check_mps(facts: Sequence[NodeFacts], request: Request) -> Finding:
    """Checks that MPS serves every node with GPUs, where trials are to share them."""
    with_gpus = [node for node in facts if node.visible_gpus]
    without = [node.address for node in with_gpus if not node.has_mps]
    if 0 < request.gpus_per_worker < 1 and without:
        return Finding(
            check="MPS",
            ok=False,
            text=f"trials are to share GPUs, and would take turns on {', '.join(without)}",
            mend="bash clusters/setup_node.sh STORAGE mps   # on these nodes, before `ray start`",
        )
    served = len(with_gpus) - len(without)
    return Finding(check="MPS", ok=True, text=f"on {served} of {_count(with_gpus, 'node')} with GPUs")


def find_leaked(groups: Mapping[str, str], living_jobs: Sequence[str]) -> list[str]:
    """Finds the placement groups that hold resources for a job that has ended. `groups`: state by id.

    The last eight digits of a placement group's id are its job's.
    """
    return sorted(name for name, state in groups.items() if state != "REMOVED" and name[-8:] not in living_jobs)


def check_placement_groups(leaked: Sequence[str]) -> Finding:
    """Checks that no placement group of an ended job holds resources."""
    if leaked:
        shown = ", ".join(name[:12] for name in leaked[:3]) + (", ..." if len(leaked) > 3 else "")
        return Finding(
            check="placement groups",
            ok=False,
            text=f"{len(leaked)} of ended jobs still hold resources: {shown}",
            mend="raysweep doctor --remove-leaked   # with the same --address",
        )
    return Finding(check="placement groups", ok=True, text="none of an ended job")


def check_data(source: str, num_files: int, facts: Sequence[NodeFacts]) -> Finding:
    """Checks that every node can read the images. `num_files` files were tried: none where all are in the cache."""
    if not num_files:
        return Finding(check="data", ok=True, text=f"{source}: decoded, in the shared cache")
    wrong = [f"{node.address} cannot read {node.unreadable[0]}" for node in facts if node.unreadable]
    if wrong:
        return Finding(
            check="data",
            ok=False,
            text=f"{source}: {'; '.join(wrong)}",
            mend="copy the images below the shared storage and name that folder: --data STORAGE/images",
        )
    return Finding(
        check="data", ok=True, text=f"{source}: {_count(range(num_files), 'file')} tried, read by every node"
    )


def _count(items: Sequence[object], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"
