"""Taxonomies: which calibration scores share one threshold (Vovk et al. 2005, section 4.5).

A taxonomy divides the classes of all tasks into groups. Every score whose true class lies in a
group calibrates that group, so coverage holds within each: on average over tasks (``global``), in
each task (``task``), in each class (``class``), in each cluster of similar classes (``cluster``
over all tasks, ``task_cluster`` within each).

Two groups are weaker. Classes too rare to be clustered share the pooled threshold (Ding et al.
2023), which is valid for them only as far as they score like the others: where rare classes are
harder, they, and with them their whole task, may be covered less than promised. And a group over
several tasks pools several scores of one picture, which depend on each other: its coverage is the
mean over tasks and may fall short by at most (tasks - 1) / (number of scores).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Levels of the quantiles that describe a class when classes are clustered (Ding et al. 2023).
_LEVELS = np.array([0.5, 0.6, 0.7, 0.8, 0.9])
#: The fewest scores for which the quantile of the highest level is finite: ceil(0.9 (n + 1)) <= n.
_FEWEST = 9


@dataclass(frozen=True)
class Partition:
    """Groups of classes, and which pictures calibrate them.

    Attributes:
        groups: of each task, the group number of each class, int64 (C_task,).
        pools: groups that are calibrated by every score of the named tasks.
        spent: pictures used up in finding the groups; they must not calibrate. Bool (n,).
    """

    groups: dict[str, Ints]
    spent: NDArray[np.bool_]
    pools: dict[int, tuple[str, ...]] = field(default_factory=dict)


#: (scores of the true classes {task: (n,)}, labels {task: (n,)}, {task: classes}, seed)
Taxonomy = Callable[[Mapping[str, Floats], Mapping[str, Ints], Mapping[str, int], int], Partition]


def _global(
    true: Mapping[str, Floats], labels: Mapping[str, Ints], classes: Mapping[str, int], seed: int
) -> Partition:
    groups = {task: np.zeros(count, np.int64) for task, count in classes.items()}
    return Partition(groups, _nothing_spent(true))


def _task(
    true: Mapping[str, Floats], labels: Mapping[str, Ints], classes: Mapping[str, int], seed: int
) -> Partition:
    groups = {task: np.full(count, g) for g, (task, count) in enumerate(classes.items())}
    return Partition(groups, _nothing_spent(true))


def _class(
    true: Mapping[str, Floats], labels: Mapping[str, Ints], classes: Mapping[str, int], seed: int
) -> Partition:
    ends = np.cumsum(list(classes.values()))
    groups = {
        task: np.arange(end - count, end)
        for (task, count), end in zip(classes.items(), ends, strict=True)
    }
    return Partition(groups, _nothing_spent(true))


def _cluster(
    true: Mapping[str, Floats], labels: Mapping[str, Ints], classes: Mapping[str, int], seed: int
) -> Partition:
    return _clustered(true, labels, classes, seed, scopes=[tuple(classes)])


def _task_cluster(
    true: Mapping[str, Floats], labels: Mapping[str, Ints], classes: Mapping[str, int], seed: int
) -> Partition:
    return _clustered(true, labels, classes, seed, scopes=[(task,) for task in classes])


def _nothing_spent(true: Mapping[str, Floats]) -> NDArray[np.bool_]:
    return np.zeros(len(next(iter(true.values()))), bool)


def _clustered(
    true: Mapping[str, Floats],
    labels: Mapping[str, Ints],
    classes: Mapping[str, int],
    seed: int,
    scopes: list[tuple[str, ...]],
) -> Partition:
    """Clusters of classes whose scores are distributed alike (Ding et al. 2023, arXiv 2306.09335).

    Half of the pictures, drawn by ``seed``, find the clusters and are spent. (The paper spends the
    share K / (75 + K) for K classes; with few classes that leaves almost none for clustering.) A
    class with too few scores among them joins its scope's null group, which is calibrated by all
    scores of the scope.
    """
    spent = _nothing_spent(true)
    spent[np.random.default_rng(seed).permutation(len(spent))[: len(spent) // 2]] = True
    groups = {task: np.zeros(count, np.int64) for task, count in classes.items()}
    pools = {}
    free = 0
    for scope in scopes:
        null = free
        pools[null] = scope
        free += 1
        members: list[tuple[str, int]] = []
        samples: list[Floats] = []
        for task in scope:
            groups[task][:] = null
            for c in range(classes[task]):
                sample = np.sort(true[task][spent & (labels[task] == c)])
                if len(sample) >= _FEWEST:
                    members.append((task, c))
                    samples.append(sample)
        if not members:
            continue
        cluster = _k_means(samples, seed)
        for (task, c), k in zip(members, cluster, strict=True):
            groups[task][c] = free + k
        free += int(cluster.max()) + 1
    return Partition(groups, spent, pools)


def _k_means(samples: list[Floats], seed: int) -> Ints:
    """The cluster of each class, from its sorted scores; (len(samples),), numbered from 0."""
    # Imported here: scikit-learn takes seconds to load and serving never clusters.
    from sklearn.cluster import KMeans

    # The paper's number of clusters: half the scores of the rarest class that is clustered.
    clusters = max(1, min(min(map(len, samples)) // 2, len(samples) // 2))
    ranks = [np.ceil(_LEVELS * (len(s) + 1)).astype(int) for s in samples]
    embedding = np.stack([s[r - 1] for s, r in zip(samples, ranks, strict=True)])
    weights = np.sqrt([len(s) for s in samples])
    # A few points are no work for several threads: on a busy machine they only wait for each other.
    with _threads().limit(limits=1, user_api="openmp"):
        found = KMeans(clusters, n_init=10, random_state=seed).fit(embedding, sample_weight=weights)
    return np.unique(found.labels_, return_inverse=True)[1].astype(np.int64)


@cache
def _threads() -> ThreadpoolController:
    """Made once, after scikit-learn is loaded: looking through all libraries takes a while."""
    return ThreadpoolController()


TAXONOMIES: dict[str, Taxonomy] = {
    "global": _global,
    "task": _task,
    "class": _class,
    "cluster": _cluster,
    "task_cluster": _task_cluster,
}
