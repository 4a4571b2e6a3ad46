"""The engine: arrays that remember the call that made them, and the walk back through these calls.

It knows no calculus. Read node, call and backward, in this order, then the rules of `minigrad.tables`.
"""

# fmt: off
from minigrad.engine.node import (
    NO_KWARGS, Array, Choice, Function, Node, Product, Rules, Selection, array_of, arrays_in, composites, constants,
    given_or_one, grad_of, has_node, latecomers, mapped, now, number_of, refusals, requires_grad_of, retains, shortcuts,
    time_of, vjps,
)
from minigrad.engine.switch import (
    Mode, Setting, Switch, alone, any_mode, by_hand, differentiating, ever_switched, is_inside, is_recording, mode,
    no_grad, on, outside, quiet_context, quietly, recording, setting, through, warnings_now,
)
from minigrad.engine.messages import as_array, changed, elsewhere, explained, freed, name_of, refuse, users_line
from minigrad.engine.call import answered, apply, call, call_other, numbers_of, unrecorded
from minigrad.engine.backward import Call, history, unbroadcast, walk
from minigrad.engine.branches import Masks, backpropagate, may_choose, walk_twice
from minigrad.engine.tensor import (
    Tensor, as_tensor, clear, constant, deposit, looked_at, rebind, set_data, set_grad, set_grads, set_numbers,
    set_requires_grad, touch,
)
