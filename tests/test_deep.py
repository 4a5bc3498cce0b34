"""A graph of any depth can be traced and dropped with the process alive.

Each case runs in a process of its own: what goes wrong here is a segmentation fault.
"""

import os
import subprocess
import sys
import textwrap

import pytest

PRELUDE = """
import gc, os, threading, time, weakref
import torch
import gradviz

def chain(length, x=None):
    y = torch.ones(1, requires_grad=True) if x is None else x
    for _ in range(length // 2):
        y = (y * 1.0).neg()
    return y

def trace(*roots):
    return len(gradviz.trace(*roots, names={}))

def released():
    # What is dropped is freed piece by piece by a thread: wait until all of it is.
    for _ in range(3000):
        if watched() is None:
            return True
        time.sleep(0.01)
    return False
"""


def survives(body: str, says: str = "alive", timeout: int = 120) -> None:
    code = PRELUDE + textwrap.dedent(body)
    command = [sys.executable, "-X", "faulthandler", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == says.split()


def test_a_million_operations_also_with_a_tensor_in_the_middle_that_outlives_the_root():
    survives(
        """
        start = torch.ones(1, requires_grad=True)
        watched = weakref.ref(start)
        middle = chain(500_000, start)
        loss = chain(500_000, middle)
        print(trace(loss))
        del loss
        gc.collect()
        middle.backward()
        print(start.grad.item())
        del middle, start
        print(released())
        """,
        says="1000003 1.0 True",
    )


def test_a_graph_dropped_in_a_thread_with_a_small_stack():
    survives(
        """
        threading.stack_size(512 * 1024)
        def work():
            loss = chain(100_000)
            trace(loss)
            del loss
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        print("alive")
        """
    )


def test_a_loss_that_sums_every_step_where_breadth_first_depth_is_small():
    survives(
        """
        h = total = torch.ones(1, requires_grad=True)
        watched = weakref.ref(h)
        for _ in range(100_000):
            h = h.sin()
            total = total + h
        trace(total)
        total.backward()
        del total, h
        print(released() and "alive")
        """
    )


@pytest.mark.parametrize("stack", ["512 * 1024", "0"])
def test_threads_that_count_their_operations_each_for_itself(stack):
    # The second half of the chain has smaller numbers than the first, and interleaved ones.
    survives(
        f"""
        torch.ones(1, requires_grad=True)
        parts = [chain(30_000)]
        def extend():
            parts.append(chain(30_000, parts[-1]))
        def drop():
            trace(parts[-1])
            parts.clear()
        threading.stack_size({stack})
        for task in (extend, extend, drop):
            thread = threading.Thread(target=task)
            thread.start()
            thread.join()
        print("alive")
        """
    )


def test_custom_functions_among_the_operations():
    survives(
        """
        class Same(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x.clone()
            @staticmethod
            def backward(ctx, gradient):
                return gradient
        for often in (1, 2, 999, 1000):
            y = torch.ones(1, requires_grad=True)
            for step in range(40_000):
                y = y.neg() if step % often else Same.apply(y)
            trace(y)
            del y
        print("alive")
        """
    )


def test_a_graph_that_is_traced_again_and_again_from_other_places():
    survives(
        """
        y = torch.ones(1, requires_grad=True)
        watched = weakref.ref(y)
        for _ in range(6):
            y = chain(6_007, y)
            trace(y)
            trace(y, y * 2)
        del y
        print(released() and "alive")
        """
    )


def test_a_graph_that_is_dropped_by_the_end_of_the_program():
    survives(
        """
        loss = chain(60_000)
        trace(loss)
        also = chain(60_000)
        trace(also)
        del also
        print("alive")
        """
    )


def check_a_graph_that_is_dropped_in_a_forked_process():
    survives(
        """
        import warnings
        warnings.simplefilter("ignore")
        start = torch.ones(1, requires_grad=True)
        watched = weakref.ref(start)
        loss = chain(100_000, start)
        trace(loss)
        child = os.fork()
        del loss, start
        done = released()
        if child == 0:
            os._exit(0 if done else 1)
        print(done and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 and "alive")
        """
    )


if hasattr(os, "fork"):
    test_a_graph_that_is_dropped_in_a_forked_process = (
        check_a_graph_that_is_dropped_in_a_forked_process
    )


def test_a_trace_that_is_interrupted_in_the_middle():
    survives(
        """
        from gradviz.capture.autograd.nodes import NodeReader
        loss = chain(100_000)
        read, calls = NodeReader.read, []
        def interrupted(self, node, edges):
            calls.append(1)
            if len(calls) == 80_000:
                raise KeyboardInterrupt
            return read(self, node, edges)
        NodeReader.read = interrupted
        try:
            trace(loss)
        except KeyboardInterrupt:
            pass
        del loss
        print("alive")
        """
    )
