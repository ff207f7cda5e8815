"""Scratch stand-ins for importance and costs, to try the driver."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tinygen import evaluate, ops
from tinygen import fit as fitting
from tinygen.frontend.keras import load_keras_model
from tinygen.pruning import heads
from tinygen.pruning.records import Cost, LayerCost
from tinygen.pruning.surgery import remove


def statistics(model, graph, samples):
    sums, squares, lows, highs, n = {}, {}, {}, {}, {}

    def visit(name, v):
        f = v.reshape(-1, v.shape[-1]).astype(np.float64)
        if name not in sums:
            sums[name] = f.sum(0)
            squares[name] = (f**2).sum(0)
            lows[name] = f.min(0)
            highs[name] = f.max(0)
            n[name] = len(f)
        else:
            sums[name] += f.sum(0)
            squares[name] += (f**2).sum(0)
            lows[name] = np.minimum(lows[name], f.min(0))
            highs[name] = np.maximum(highs[name], f.max(0))
            n[name] += len(f)

    c = samples.count
    idx = np.linspace(0, c - 1, min(c, 512)).astype(int)
    for i in range(0, len(idx), 32):
        evaluate.real(graph, [x[idx[i : i + 32]] for x in samples.x], visit)
    return {
        k: (sums[k] / n[k], np.maximum(squares[k] / n[k] - (sums[k] / n[k]) ** 2, 0), lows[k], highs[k])
        for k in sums
    }


def readers(graph, group):
    """(node, weights slice, mean tensor name) of all reading weights."""
    for s in group.constants:
        if s.reads:
            for b in graph.bound():
                if s.tensor in b.node.inputs:
                    yield b, s


def corrected(graph, chosen, stats):
    tensors = dict(graph.tensors)
    for g in chosen:
        for b, s in readers(graph, g):
            w = np.array(tensors[s.tensor].data)
            bias = b.inputs[2].name
            bd = np.array(tensors[bias].data, np.float64)
            mean = stats[b.inputs[0].name][0]
            wm = np.moveaxis(w, s.axis, 0)
            a = [x for x in g.activations if x.tensor == b.inputs[0].name]
            ch = a[0].indices if a else ()
            if len(ch) == len(s.indices) and wm.shape[0] == len(mean):
                for i in s.indices:
                    contrib = wm[i] * mean[i]
                    # sum over all axes except output axis (axis 0 of weights for conv/dense)
                    out = np.moveaxis(np.expand_dims(contrib, 0), 0, s.axis) if False else contrib
                    oa = ops.get(b.node.op).output_axis
                    # output axis position after removing s.axis
                    full = list(range(w.ndim))
                    full.remove(s.axis % w.ndim)
                    pos = full.index(oa % w.ndim)
                    bd += contrib.sum(axis=tuple(k for k in range(contrib.ndim) if k != pos))
                tensors[bias] = replace(tensors[bias], data=bd.astype(np.float32))
            wm[list(s.indices)] = 0
            tensors[s.tensor] = replace(tensors[s.tensor], data=w)
    return graph.evolve(tensors=tensors)


def scores(graph, found, stats):
    """share of the readers' output energy that goes with a group, mean-folded."""
    total = {}
    out = np.zeros(len(found))
    for b in graph.bound():
        pass
    per = []
    for i, g in enumerate(found):
        if not g.removable:
            out[i] = np.inf
            continue
        e = 0.0
        for b, s in readers(graph, g):
            w = np.moveaxis(np.asarray(graph.tensors[s.tensor].data, np.float64), s.axis, 0)
            v = stats[b.inputs[0].name][1]
            den = max(float(stats[b.node.output][1].sum()), 1e-30)
            for j in s.indices:
                vv = v[j] if len(v) == w.shape[0] else v.mean()
                e += float((w[j] ** 2).sum()) * float(vv) / den
        out[i] = e
    return out


class Masks:
    def __init__(s, graph, found, stats, judge, count=256):
        s.graph, s.found, s.stats, s.judge = graph, found, stats, judge
        n = judge.samples.count
        idx = np.linspace(0, n - 1, min(n, count)).astype(int)
        s.x = [x[idx] for x in judge.samples.x]
        from dataclasses import replace as r

        from tinygen.samples import Samples

        s.judge = r(judge, samples=Samples(tuple(s.x)), original=tuple(o[idx] for o in judge.original))

    def loss(s, gone):
        g = corrected(s.graph, [s.found[i] for i in gone], s.stats)
        outs = evaluate.chunked(lambda xs: evaluate.real(g, xs), s.x, 64)
        return s.judge.distance(outs).mean


def fold(model, graph, chosen, stats):
    """Keras model with biases corrected by the mean (where there is a bias), then removed."""
    m = heads.copied(model)
    return remove(m, graph, chosen)


class Costs:
    def __init__(s, board, wishes):

        s.board, s.wishes = board, wishes
        s.cpm = None
        s.cache = {}

    def program(s, graph):
        f = fitting.Fitter(graph)
        key, program, plan = f.planned(s.board)
        return f, program, plan

    def estimate_of(s, graph):

        f, program, plan = s.program(graph)

        r = f.fit(s.board)
        weights = sum(v.nbytes for st in program.steps for v in st.kernel.constants(st.bound).values())
        macs = sum(ops.get(st.bound.node.op).macs(st.bound) for st in program.steps)
        layers = []
        cyc = 0.0
        for st in program.steps:
            c = st.kernel.cost(st.bound)
            cyc += c
            b = st.bound
            live = sum(t.size_bytes for t in b.activations) + b.output.size_bytes
            layers.append(LayerCost(b.name, ops.get(b.node.op).macs(b), c, live))
        sram = plan.arena_bytes + weights + 1024
        return Cost(
            s.board.name,
            plan.arena_bytes,
            weights,
            sram,
            weights + 9000,
            weights,
            macs,
            cyc,
            cyc / s.board.clock_hz * 1e3 if hasattr(s.board, "clock_hz") else cyc / 1e5,
            False,
            tuple(layers),
        )

    def estimate(s, model, graph, chosen):
        key = tuple(sorted(g.name for g in chosen))
        k = (id(graph), key)
        if k not in s.cache:
            s.cache[k] = s.estimate_of(load_keras_model(remove(model, graph, chosen)) if chosen else graph)
        return s.cache[k]

    def measure(s, graph):
        return s.estimate_of(graph)


def dead(graph, found, st):
    zero = []
    for i, x in enumerate(found):
        if not x.removable:
            continue
        ok = True
        for b, _s in readers(graph, x):
            _m, _v, lo, hi = st[b.inputs[0].name]
            ch = [k for p in x.activations if p.tensor == b.inputs[0].name for k in p.indices]
            ok &= all(lo[k] == 0 == hi[k] for k in ch)
        if ok:
            zero.append(i)
    return zero
