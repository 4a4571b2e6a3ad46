"""Switches: on in their block and nowhere else, whatever ends it, in any order, and in whichever thread or task."""

import asyncio
import contextlib
import gc
import itertools
import random
import signal
import sys
import threading
import time
import traceback
from _thread import interrupt_main
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from profiles import scale, thorough_only

import minigrad as mg
from minigrad import nn
from minigrad.engine import Mode, is_recording, mode, on, outside, recording
from minigrad.engine.switch import _recording, quietly

WARNINGS = np.geterr()


class Listed(Mode):
    """A mode that notes how many calls it was shown."""

    def __init__(self) -> None:
        self.calls = 0

    def call(self, *call: Any) -> Any:
        self.calls += 1
        return outside(*call)


def state() -> tuple[bool, Any]:
    return is_recording(), mode()


def assert_nothing_left() -> None:
    """All switches are as a program finds them when it starts: by asking, and by what the engine does."""
    assert state() == (True, None)
    assert np.geterr() == WARNINGS
    assert (mg.Tensor(1.0, requires_grad=True) * 2).requires_grad
    assert type(mg.grad(lambda x: x * x)(1.0)) is np.ndarray
    assert np.isnan(quietly(np.log, np.array(-1.0)))


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    assert_nothing_left()
    yield
    assert_nothing_left()


# ------------------------------------------------------------------------------------------------------- interrupts

X, Y = np.linspace(-1, 1, 6).reshape(2, 3), np.ones((2, 1))


def training() -> Callable[[], None]:
    """A step of training as users write it, with all that switches anything on the way."""
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Linear(3, 4, rng=rng), nn.ReLU(), nn.Linear(4, 1, rng=rng))
    optimizer = mg.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    compiled = mg.compile(lambda x: np.sum(np.sin(x) * 2))
    compiled(np.ones(3))
    short = mg.checkpoint(lambda x: np.tanh(x) * np.tanh(x))
    predict = mg.no_grad(lambda: model(X).data)

    def step() -> None:
        optimizer.zero_grad()
        loss = nn.mse_loss(model(X), Y)
        loss.backward()
        optimizer.step()
        with mg.no_grad():
            nn.mse_loss(model(X), Y).item()
        with mg.debug():
            nn.mse_loss(short(model(X)), Y).backward()
        with mg.no_grad():
            for parameter in model.parameters():
                parameter -= 0.01 * parameter.grad
        mg.grad(lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0)) + compiled(x) ** 2)(np.arange(3.0))
        mg.hessian(lambda x: np.sum(x**3))(np.ones(1))
        predict()

    return step


def traced(f: Callable[[], None], kind: str, moment: Callable[[int], bool], action: Callable[[], None]) -> int:
    """Run a function, and act before those of its lines, or instructions, whose number says so; how many there were."""
    count = 0

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal count
        if frame.f_code.co_name == "__del__":  # an error in there is lost, as Python has it
            return None
        frame.f_trace_opcodes = kind == "opcode"
        if event == kind:
            count += 1
            if moment(count):
                action()
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = (
        kind == "opcode"
    )  # Python 3.12 tells of opcodes only if a frame asked for it before
    gc.disable()  # what happens in a collection is not part of the program, and its errors are lost
    sys.settrace(trace)
    try:
        f()
    finally:
        sys.settrace(before)
        gc.enable()
    return count


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("kind", "runs"), [("line", scale(50, 10_000)), ("opcode", scale(12, 2_000))])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of an object that was half made
def test_an_interrupt_anywhere_leaves_no_switch_behind(kind: str, runs: int) -> None:
    step = training()
    step()
    steps = traced(step, kind, lambda count: False, interrupt)
    rng, interrupted = random.Random(0), 0
    for part in range(runs):
        at = rng.randint(1 + part * steps // runs, (part + 1) * steps // runs)
        try:  # a step may have fewer lines after one that was interrupted
            traced(step, kind, lambda count, at=at: count == at, interrupt)
        except KeyboardInterrupt as error:
            interrupted += 1
            line = traceback.extract_tb(error.__traceback__)[-3]
            assert (is_recording(), mode(), np.geterr()) == (True, None, WARNINGS), (at, line)  # while it is handled
        assert_nothing_left()
    assert interrupted > 0.9 * runs
    step()


def test_an_interrupt_between_a_block_and_its_end() -> None:
    """At every instruction from before a `with` statement to behind it, in the switch, too."""
    x = mg.Tensor([1.0, 2.0], requires_grad=True)

    def blocks() -> None:
        with mg.no_grad(), mg.debug(), recording(True), mg.no_grad():
            x * 2

    for at in range(1, traced(blocks, "opcode", lambda count: False, interrupt) + 1):
        with pytest.raises(KeyboardInterrupt) as caught:
            traced(blocks, "opcode", lambda count, at=at: count == at, interrupt)
        assert state() == (True, None), at  # while the traceback holds on to all frames
        del caught
        with mg.no_grad():
            with contextlib.suppress(KeyboardInterrupt):
                traced(blocks, "opcode", lambda count, at=at: count == at, interrupt)
            assert state() == (False, None), at


class Alarm:
    """Interrupts at random moments, as long as it is set."""

    def __init__(self, number: int) -> None:
        self.number, self.is_set = number, False

    def __call__(self, *_: Any) -> None:
        if self.is_set:
            self.is_set = False
            raise KeyboardInterrupt

    def __enter__(self) -> "Alarm":
        self.before = signal.signal(self.number, self)
        return self

    def __exit__(self, *_: Any) -> None:
        signal.signal(self.number, self.before)

    def interrupts(self, step: Callable[[], None], start: Callable[[], Any]) -> bool:
        """Run steps until the interrupt comes, which `start` brings about; whether it did, and in no destructor."""
        self.is_set, end = True, time.monotonic() + 5
        try:
            start()
            while self.is_set and time.monotonic() < end:
                step()
        except KeyboardInterrupt:
            return True
        finally:
            self.is_set = False
        return False


@thorough_only
@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals are for the main thread alone"
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("how", ["timer", "raise_signal", "interrupt_main"])
def test_signals_leave_no_switch_behind(how: str) -> None:
    if how == "timer" and not hasattr(signal, "setitimer"):
        pytest.skip("Windows has no setitimer")
    step, rng, reached = training(), random.Random(how), 0
    step()
    rounds = scale(15, 1_000)
    with Alarm(signal.SIGALRM if how == "timer" else signal.SIGINT) as alarm:
        for _ in range(rounds):
            after = rng.uniform(1e-5, 0.01)
            if how == "timer":
                reached += alarm.interrupts(step, lambda after=after: signal.setitimer(signal.ITIMER_REAL, after))
                signal.setitimer(signal.ITIMER_REAL, 0)
            else:
                act = interrupt_main if how == "interrupt_main" else partial(signal.raise_signal, signal.SIGINT)
                thread = threading.Thread(target=lambda after=after, act=act: (time.sleep(after), act()))
                reached += alarm.interrupts(step, thread.start)
                thread.join()
            assert_nothing_left()
    assert reached > rounds / 2


# -------------------------------------------------------------------------------------------------- order and nesting

BLOCKS: dict[str, Callable[[], tuple[Any, tuple[str, Any]]]] = {  # what makes a block, and what it switches to what
    "no_grad": lambda: (mg.no_grad(), ("recording", False)),
    "recording": lambda: (recording(True), ("recording", True)),
    "recording off": lambda: (recording(False), ("recording", False)),
    "debug": lambda: ((block := mg.debug()), ("mode", block.value)),
    "a mode": lambda: ((block := on(Listed())), ("mode", block.value)),
}


def expected(blocks: list[tuple[Any, tuple[str, Any]]]) -> tuple[bool, Any]:
    """What is on in blocks that have not ended, the oldest first."""
    found = {"recording": True, "mode": None, **dict(switched for _, switched in blocks)}
    return found["recording"], found["mode"]


def holding(block: Any) -> Iterator[None]:
    """A block that ends when somebody closes the generator."""
    with block:
        yield


@given(st.data())
def test_blocks_that_end_in_any_order(data: st.DataObject) -> None:
    open_blocks: list[Any] = []
    for _ in range(data.draw(st.integers(2, 12))):
        if open_blocks and data.draw(st.booleans()):
            generator, _ = open_blocks.pop(data.draw(st.integers(0, len(open_blocks) - 1)))
            end = data.draw(st.sampled_from(["close", "next", "throw", "forget"]))
            if end == "close":
                generator.close()
            elif end == "next":
                assert next(generator, "ended") == "ended"
            elif end == "throw":
                with contextlib.suppress(KeyError):
                    generator.throw(KeyError())
            del generator
        else:
            block, switched = BLOCKS[data.draw(st.sampled_from(sorted(BLOCKS)))]()
            generator = holding(block)
            next(generator)
            open_blocks.append((generator, switched))
            del generator
        assert state() == expected(open_blocks)
    open_blocks.clear()
    assert state() == (True, None)


def what_is_on() -> set[str]:
    """Which of no_grad and debug are on, by what they do."""
    x, found = mg.Tensor([-1.0, 2.0], requires_grad=True), set()
    if not (x * 2).requires_grad:
        found.add("no_grad")
    try:
        x * np.nan
    except FloatingPointError:
        found.add("debug")
    return found


@pytest.mark.parametrize("names", [("no_grad", "debug"), ("debug", "no_grad")])
@pytest.mark.parametrize("first", [0, 1])
def test_two_generators_closed_in_either_order(names: tuple[str, str], first: int) -> None:
    blocks = {name: holding(BLOCKS[name]()[0]) for name in names}
    for generator in blocks.values():
        next(generator)
    assert what_is_on() == {"no_grad", "debug"}
    blocks[names[first]].close()
    assert what_is_on() == {names[1 - first]}
    blocks[names[1 - first]].close()
    assert what_is_on() == set()


@pytest.mark.parametrize(
    "names", list(itertools.permutations(["debug", "no_grad", "recording", "a mode"])), ids=" ".join
)
def test_every_order_of_nesting(names: tuple[str, ...]) -> None:
    x = mg.Tensor([-1.0, 2.0], requires_grad=True)

    def check(blocks: list[Any]) -> None:
        is_on, here = expected(blocks)
        assert state() == (is_on, here)
        assert (x * 2).requires_grad == is_on
        listed = [value for _, (what, value) in blocks if isinstance(value, Listed)]
        before = [a.calls for a in listed]
        x * 2
        assert [a.calls for a in listed] == [n + 1 for n in before]  # once, though there are modes inside of it
        assert ("debug" in what_is_on()) == any(what == "mode" and not isinstance(m, Listed) for _, (what, m) in blocks)

    def nested(rest: tuple[str, ...], blocks: list[Any]) -> None:
        check(blocks)
        if rest:
            block, switched = BLOCKS[rest[0]]()
            with block:
                nested(rest[1:], [*blocks, (block, switched)])
            check(blocks)
            with contextlib.suppress(KeyError), block:  # the same once more, and it ends with an error
                raise KeyError
            check(blocks)

    nested(names, [])


@pytest.mark.parametrize("name", BLOCKS)
def test_one_switch_serves_nested_blocks_again_and_again(name: str) -> None:
    block, switched = BLOCKS[name]()
    for _ in range(3):
        with block:
            with block, BLOCKS["recording"]()[0]:
                with block:
                    assert state() == expected([(block, switched)])
                assert state()[0]
            assert state() == expected([(block, switched)])
        assert state() == (True, None)


def test_one_switch_serves_a_recursion() -> None:
    block = mg.no_grad()

    @block
    def down(n: int) -> int:
        assert not is_recording()
        with recording(True):
            deep = 1 + down(n - 1) if n else 0
            assert is_recording()
        assert not is_recording()
        return deep

    assert down(50) == 50


def test_one_switch_serves_many_threads() -> None:
    block, barrier = mg.no_grad(), threading.Barrier(8)

    def work(odd: bool) -> list[tuple[bool, bool]]:
        seen = []
        for _ in range(scale(30, 1_000)):
            barrier.wait(10)
            before = is_recording()
            with contextlib.nullcontext() if odd else block:
                barrier.wait(10)
                seen.append((before, is_recording()))
        return seen

    with ThreadPoolExecutor(8) as pool:
        for odd, seen in zip([False, True] * 4, pool.map(work, [False, True] * 4), strict=True):
            assert set(seen) == {(True, odd)}


# ------------------------------------------------------------------------------------------------- threads and tasks


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_is_for_its_thread(name: str) -> None:
    block, switched = BLOCKS[name]()
    with ThreadPoolExecutor(1) as pool, block:
        assert pool.submit(state).result() == (True, None)
        held = holding(block)
        pool.submit(next, held).result()
        assert pool.submit(state).result() == expected([(block, switched)])
        held.close()  # in another thread than it began
        assert pool.submit(state).result() == (True, None)
        assert state() == expected([(block, switched)])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_threads_are_started_and_die_in_blocks() -> None:
    seen: list[Any] = []

    def dies() -> None:
        mg.debug().__enter__()
        with mg.no_grad():
            seen.append(state()[0])
            raise SystemExit

    with mg.no_grad(), recording(True):
        for _ in range(20):
            thread = threading.Thread(target=dies)
            thread.start()
            thread.join()
        assert state() == (True, None)
    assert seen == [False] * 20


def test_tasks_have_their_own_switches() -> None:
    async def task(names: tuple[str, ...]) -> None:
        with contextlib.ExitStack() as stack:
            blocks = []
            for name in names:
                block, switched = BLOCKS[name]()
                stack.enter_context(contextlib.contextmanager(holding)(block))
                blocks.append((block, switched))
                await asyncio.sleep(0)
                assert state() == expected(blocks)
                mg.grad(np.sin)(1.0)
        await asyncio.sleep(0)
        assert state() == (True, None)

    async def main() -> None:
        await asyncio.gather(*map(task, itertools.permutations(BLOCKS, 2)))
        assert state() == (True, None)
        with mg.no_grad():
            await asyncio.gather(*[asyncio.sleep(0) for _ in range(3)])
            assert state() == (False, None)

    asyncio.run(main())


def test_a_task_that_is_cancelled_in_a_block() -> None:
    async def waits() -> None:
        with mg.no_grad(), mg.debug():
            await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(waits())
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert state() == (True, None)

    asyncio.run(main())


# -------------------------------------------------------------------------------------------------------- decorators


@pytest.mark.parametrize("name", BLOCKS)
def test_decorated_functions_and_coroutines(name: str) -> None:
    block, switched = BLOCKS[name]()
    inside = expected([(block, switched)])

    @block
    def now(value: int, *, fails: bool = False) -> Any:
        """What is on."""
        if fails:
            raise KeyError
        return value, state()

    @block
    async def later(value: int, *, fails: bool = False) -> Any:
        await asyncio.sleep(0)
        return now(value, fails=fails)[0], state()

    async def main() -> None:
        for value, other in zip(range(3), await asyncio.gather(*map(later, range(3))), strict=True):
            assert other == (value, inside)
            assert state() == (True, None)
        with pytest.raises(KeyError):
            await later(0, fails=True)
        assert state() == (True, None)

    for value in range(3):
        assert now(value) == (value, inside)
        assert state() == (True, None)
    with pytest.raises(KeyError):
        now(0, fails=True)
    assert state() == (True, None)
    asyncio.run(main())
    assert (now.__name__, now.__doc__, later.__name__) == ("now", "What is on.", "later")


def test_decorated_methods() -> None:
    class Judge:
        @mg.no_grad
        def is_recording(self) -> bool:
            return is_recording()

    assert (Judge().is_recording(), is_recording()) == (False, True)


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("block", [mg.no_grad, mg.no_grad(), mg.debug, mg.debug(), recording(True), on(Mode())])
@pytest.mark.parametrize("function", [generator, async_generator])
def test_generator_functions_are_refused(block: Any, function: Any) -> None:
    with pytest.raises(TypeError, match=f"{function.__name__} is a generator function.*`with` block inside it"):
        block(function)


@pytest.mark.parametrize("block", [mg.no_grad, mg.no_grad(), mg.debug, mg.debug()])
def test_what_is_no_function_is_refused(block: Any) -> None:
    with pytest.raises(TypeError, match=r"a function, not 3.*`with` block"):
        block(3)


@pytest.mark.parametrize("block", [mg.no_grad, mg.no_grad(), mg.debug, mg.debug()])
def test_a_switch_is_a_block_with_and_without_a_call(block: Any) -> None:
    name = "no_grad" if block is mg.no_grad else "debug"
    with block:
        assert what_is_on() == {name}
        with block():
            assert what_is_on() == {name}
    assert what_is_on() == set()
    assert block(what_is_on)() == block()(what_is_on)() == {name}


@pytest.mark.parametrize("name", ["no_grad", "debug"])
def test_blocks_may_be_begun_and_ended_by_hand(name: str) -> None:
    block = getattr(mg, name)
    block().__enter__()
    block.__enter__()
    assert what_is_on() == {name}
    with block:
        with pytest.raises(RuntimeError, match=r"__exit__\(\) ends what __enter__\(\) began"):
            block.__exit__(None, None, None)  # the innermost is that of the `with` statement
        assert what_is_on() == {name}
    block.__exit__(None, None, None)
    assert what_is_on() == {name}
    block.__exit__(None, None, None)
    assert what_is_on() == set()
    with pytest.raises(RuntimeError, match=r"__exit__\(\) ends what __enter__\(\) began"):
        block.__exit__(None, None, None)


def test_an_exit_stack_holds_blocks() -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(mg.no_grad())
        with recording(True):
            assert is_recording()
        assert not is_recording()
    assert is_recording()


def test_whoever_asks_while_a_block_begins_does_no_harm() -> None:
    sys.setprofile(lambda *event: is_recording())
    try:
        with mg.no_grad():
            inside = is_recording()
            with recording(True):
                deeper = is_recording()
    finally:
        sys.setprofile(None)
    assert (inside, deeper, is_recording()) == (False, True, True)


def test_many_blocks_that_ended_in_generators_are_forgotten() -> None:
    def holds() -> Any:
        with mg.no_grad():
            yield

    generators = [holds() for _ in range(3000)]
    for generator in generators:
        next(generator)
    for generator in generators:
        generator.close()
    assert is_recording()


def test_blocks_that_ended_leave_nothing_to_look_through() -> None:
    """Each of them would make the next one slower."""
    for _ in range(100):
        with mg.no_grad():
            pass
    found, count = _recording.get(), 0
    while found is not None:
        found, count = found.outer, count + 1
    assert count <= 1
