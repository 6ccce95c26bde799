"""A memory over whole sequences by torch: one call for all of them, however often each begins anew.

Sequences are cut where an episode begins. The pieces are sequences of their own, of which the first of each column
begins in the state that is given and the others in zeros, and one packed call of torch's LSTM or GRU, cuDNN's on a GPU,
runs them side by side, longest first. A loop over steps would launch a dozen kernels for each; on the CPU, where a
launch costs nothing, the loop is several times faster than torch's packed call.
"""

from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from puffer_il.core.spec import Array
from puffer_il.nn.page_locked import sent

Cell = nn.LSTMCell | nn.GRUCell


class Pieces(NamedTuple):
    """Sequences (num_steps, m) cut into k pieces, longest first. Rows are numbered t·m + column.

    order    (num_steps·m,) int64 rows as they are packed: the first of every piece, the second of those with two, …
    back     (num_steps·m,) int64 where in that order each row is
    counts   (longest,) int64 how many pieces have a first, a second, … row
    columns  (k,) int64 the column of each piece
    given    (k,) bool: it begins in the column's given state, not in zeros
    last     (m,) int64 the piece that each column ends in
    """

    order: Array
    back: Array
    counts: Array
    columns: Array
    given: Array
    last: Array


def cut(starts: Array) -> Pieces:
    """`starts` (num_steps, m) bool: the state is zeroed before this row."""
    steps, m = starts.shape
    begins = starts.T.copy()  # column by column
    begins[:, 0] = True
    columns, first = np.nonzero(begins)
    number = np.flatnonzero(begins)  # of the pieces' first rows, column by column
    lengths = np.diff(np.append(number, steps * m))
    longest_first = np.argsort(-lengths, kind="stable")
    columns, first, lengths = columns[longest_first], first[longest_first], lengths[longest_first]
    counts = np.cumsum(np.bincount(lengths)[:0:-1])[::-1].copy()  # pieces of length > t
    before = np.cumsum(counts) - counts
    depth = np.repeat(np.arange(len(counts)), counts)  # of a packed row in its piece
    piece = np.arange(steps * m) - before[depth]
    order = (first[piece] + depth) * m + columns[piece]
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    ends = first + lengths == steps
    last = np.empty(m, np.int64)
    last[columns[ends]] = np.flatnonzero(ends)
    return Pieces(order, back, counts, columns, (first == 0) & ~starts[0, columns], last)


def in_one_call(x: Tensor) -> bool:
    """True if `run` is for such features; torch.compile cannot follow how it cuts."""
    return x.is_cuda and not torch.compiler.is_compiling()


def run(cell: Cell, x: Tensor, state: Tensor, starts: Tensor | None) -> tuple[Tensor, Tensor]:
    """Hidden states (num_steps·m, units) of x (num_steps, m, inputs), and the state (m, state_dim) after; `state` is
    that before, and is zeroed where `starts` (num_steps, m) is set. Differentiable by all but `starts`, which is best
    on the CPU: elsewhere it is waited for."""
    steps, m = x.shape[:2]
    if starts is None:
        hidden, after = _call(cell, x, None, state)
        return hidden.reshape(steps * m, -1), after
    pieces = cut(starts.to("cpu", torch.bool).numpy())
    order, back, columns, last = (sent(part, x.device) for part in (pieces.order, pieces.back, pieces.columns,
                                                                    pieces.last))
    begin = state.index_select(0, columns) * sent(pieces.given, x.device).to(state.dtype).unsqueeze(1)
    packed = x.reshape(steps * m, -1).index_select(0, order)
    hidden, after = _call(cell, packed, torch.from_numpy(pieces.counts), begin)
    return hidden.index_select(0, back), after.index_select(0, last)


def _call(cell: Cell, x: Tensor, counts: Tensor | None, state: Tensor) -> tuple[Tensor, Tensor]:
    """Of sequences x (num_steps, m, inputs), or of packed ones x (rows, inputs) with their `counts`: hidden states in
    the same order, and the states (m, state_dim) after."""
    parameters: tuple[Tensor, ...] = (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
    if x.is_cuda:  # cuDNN wants them in a piece of memory of their own, in this order, and says so if they are not
        whole = torch.cat([p.reshape(-1) for p in parameters]).split([p.numel() for p in parameters])
        parameters = tuple(part.view_as(p) for part, p in zip(whole, parameters, strict=True))
    options = (parameters, True, 1, 0.0, torch.is_grad_enabled(), False)  # biases, layers, dropout, training, both ways
    more = (False,) if counts is None else ()  # rows before steps
    lead = (x,) if counts is None else (x, counts)
    gru, lstm = cast(Any, torch.gru), cast(Any, torch.lstm)  # their types know no unpacked arguments
    if isinstance(cell, nn.GRUCell):
        hidden, after = gru(*lead, state.unsqueeze(0), *options, *more)
        return hidden, after[0]
    before = [part.contiguous() for part in state.unsqueeze(0).chunk(2, 2)]
    hidden, *both = lstm(*lead, before, *options, *more)
    return hidden, torch.cat(both, 2)[0]
