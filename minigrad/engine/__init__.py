"""The engine: arrays that remember the call that made them, and the walk back through these calls.

It knows no calculus. Read node, call and backward, in this order, then the rules of `minigrad.tables`.
"""

# fmt: off
from minigrad.engine.node import (
    NO_KWARGS, Array, Choice, Function, Node, Product, Rules, Selection, array_of, arrays_in, as_array, composites,
    constants, mapped, refusals, shortcuts, time_of, vjps,
)
from minigrad.engine.switch import (
    Mode, inside_of, is_inside, is_recording, mode, no_grad, on, outside, quietly, recording,
)
from minigrad.engine.messages import explained, name_of, users_line
from minigrad.engine.call import answered, apply, call, call_other, numbers_of, unrecorded
from minigrad.engine.backward import Call, history, unbroadcast, walk
from minigrad.engine.branches import Masks, backpropagate, may_choose
from minigrad.engine.tensor import (
    Tensor, as_tensor, grad_of, looked_at, rebind, set_data, set_grad, set_numbers, touch,
)
from minigrad.engine.primitive import composition, constant, primitive
