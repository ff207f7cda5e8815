"""Which objects go into which of several knapsacks: solved by integer programming (HiGHS, through SciPy)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinygen.graph import Array

GAP = 1e-4
"""The solver stops when what it found is proved to be within this share of the best: the proof of the last bit can
take seconds where two knapsacks are alike."""
NODES = 20_000
"""The solver's limit, in nodes of its search and not in seconds: the answer is the same on every machine."""


@dataclass(frozen=True)
class Knapsacks:
    """n objects, r knapsacks. sizes (n), rooms (r), values (n, r); allowed, forced (n, r): what may and what must be;
    must (n): objects that have to be in some knapsack; pays (n): those that count against the budget (None: no limit).
    """

    sizes: Array
    rooms: Array
    values: Array
    allowed: Array
    forced: Array
    must: Array
    pays: Array
    budget: float | None

    def free(self, taken: Array) -> Array:
        """Room left in each knapsack."""
        return np.asarray(self.rooms - self.sizes @ taken)

    def unspent(self, taken: Array) -> float:
        """What the budget leaves."""
        if self.budget is None:
            return float("inf")
        return self.budget - float((self.sizes * self.pays) @ taken.sum(axis=1))


def solve(problem: Knapsacks) -> tuple[Array, float] | None:
    """(which object is in which knapsack (n, r), upper bound of the value); None when there is no way."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    count, sacks = problem.values.shape
    once = np.kron(np.eye(count), np.ones(sacks))
    fill = np.kron(problem.sizes, np.eye(sacks))
    constraints = [
        LinearConstraint(once, problem.must.astype(float), 1.0),
        LinearConstraint(fill, -np.inf, problem.rooms),
    ]
    if problem.budget is not None:
        paid = np.repeat(problem.sizes * problem.pays, sacks)
        constraints.append(LinearConstraint(paid, -np.inf, problem.budget))
    answer = milp(
        np.where(problem.allowed, -problem.values, 0.0).reshape(-1),
        integrality=np.ones(count * sacks),
        bounds=Bounds(problem.forced.astype(float).reshape(-1), problem.allowed.astype(float).reshape(-1)),
        constraints=constraints,
        options={"node_limit": NODES, "mip_rel_gap": GAP},
    )
    if answer.x is None:
        return None
    taken = np.round(answer.x).reshape(count, sacks).astype(bool)
    bound = float("inf") if answer.mip_dual_bound is None else -float(answer.mip_dual_bound)
    return improved(problem, taken), bound


def improved(problem: Knapsacks, taken: Array) -> Array:
    """Use the room that the solver's gap left: put objects where they are worth more and fit, most per size first."""
    taken = taken.copy()
    per_size = np.where(problem.allowed, problem.values, 0.0) / np.maximum(problem.sizes, 1)[:, None]
    for index in np.argsort(-per_size, axis=None, kind="stable"):
        thing, sack = divmod(int(index), problem.values.shape[1])
        if per_size[thing, sack] <= float((per_size[thing] * taken[thing]).sum()):
            continue
        size, is_new = problem.sizes[thing], not taken[thing].any()
        pays = size * problem.pays[thing] * is_new
        if size <= problem.free(taken)[sack] and pays <= problem.unspent(taken):
            taken[thing] = np.arange(len(problem.rooms)) == sack
    return taken
