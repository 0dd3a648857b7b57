"""The breaker, as the state machine that it is: no clock, no Redis."""

from hypothesis import given
from hypothesis import strategies as st

from cacheflow.breaker import Breaker, BreakerState

CLOSED, OPEN, PROBING = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.PROBING


def opened(at=0.0):
    breaker = Breaker(3, 1.0)
    assert [breaker.failed(at) for _ in range(3)] == [False, False, True]
    return breaker


def test_failures_in_a_row_open_it():
    breaker = opened()
    assert breaker.state is OPEN
    assert not breaker.allow(0.5)


def test_a_success_between_failures_keeps_it_closed():
    breaker = Breaker(2, 1.0)
    for _ in range(5):
        assert not breaker.failed(0.0)
        assert not breaker.succeeded()
    assert breaker.state is CLOSED and breaker.untroubled


def test_one_probe_after_the_cooldown():
    breaker = opened()
    assert not breaker.allow(0.999)
    assert breaker.allow(1.0)
    assert breaker.state is PROBING
    assert not breaker.allow(1.0)


def test_a_probe_that_succeeds_closes_it():
    breaker = opened()
    breaker.allow(1.0)
    assert breaker.succeeded()
    assert breaker.state is CLOSED and breaker.allow(1.0)


def test_a_probe_that_fails_opens_it_for_another_cooldown():
    breaker = opened()
    breaker.allow(1.0)
    assert not breaker.failed(1.2), "it was not closed in between"
    assert breaker.state is OPEN
    assert not breaker.allow(2.1) and breaker.allow(2.2)


def test_a_probe_of_which_nothing_is_heard_is_given_up():
    breaker = opened()
    assert breaker.allow(1.0)
    assert not breaker.allow(1.9)
    assert breaker.allow(2.0)


def test_late_failures_do_not_prolong_the_cooldown():
    breaker = opened()
    assert not breaker.failed(0.9)
    assert breaker.allow(1.0)


@given(st.lists(st.tuples(st.sampled_from(["ask", "ok", "bad"]), st.floats(0, 0.7)), max_size=60))
def test_against_a_model(steps):
    """The model: (row of failures, open until, asked by a probe)."""
    breaker, now, row, state, until = Breaker(3, 1.0), 0.0, 0, "closed", 0.0
    for step, pause in steps:
        now += pause
        if step == "ask":
            expected = state == "closed" or now >= until
            if state != "closed" and expected:
                state, until = "probing", now + 1.0
            assert breaker.allow(now) is expected
        elif step == "ok":
            assert breaker.succeeded() is (state != "closed")
            row, state = 0, "closed"
        else:
            row += 1
            opens = state == "closed" and row >= 3
            assert breaker.failed(now) is opens
            if opens or state == "probing":
                state, until = "open", now + 1.0
        assert breaker.state.value == state
        assert breaker.untroubled is (row == 0)
