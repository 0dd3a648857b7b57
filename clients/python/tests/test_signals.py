"""What the core waits for."""

import threading

import pytest

from cacheflow.signals import Flights, Limit, Signal


def test_a_signal_tells_listeners_once_and_late_ones_at_once():
    signal, heard = Signal(), []
    signal.listen(lambda: heard.append(1))
    signal.set()
    signal.set()
    signal.listen(lambda: heard.append(2))
    assert heard == [1, 2]


def test_one_leads_and_the_others_join():
    flights = Flights()
    first, leads = flights.enter("k")
    again, joins = flights.enter("k")
    assert leads and not joins and again is first
    assert flights.enter("other")[1]
    flights.leave("k", first)
    assert flights.enter("k")[1]


def test_an_answer_is_for_those_who_asked_before_its_work_began():
    flights = Flights()
    flight, _ = flights.enter("k")
    before = flight.step
    flight.step += 1  # a command is sent
    after = flight.step
    flight.land(lambda: "value", flight.step)
    assert flight.answers(before)
    assert not flight.answers(after), "who asked after the command was sent must ask anew"


def test_a_cancelled_flight_answers_nobody():
    flight, _ = Flights().enter("k")
    flight.step += 1
    flight.fail(None, flight.step)
    assert flight.happened and not flight.answers(0)


def test_a_limit_lets_so_many_in_in_order():
    limit = Limit(2)
    places = [limit.enter() for _ in range(5)]
    assert [place.happened for place in places] == [True, True, False, False, False]
    limit.leave(places[3])  # gave up waiting
    limit.leave(places[0])
    assert [place.happened for place in places[2:]] == [True, False, False]
    limit.leave(places[1])
    assert places[4].happened
    limit.leave(places[2])
    limit.leave(places[4])
    assert [limit.enter().happened for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("most", [1, 3])
def test_a_limit_under_threads(most):
    limit, inside, worst, lock = Limit(most), [0], [0], threading.Lock()

    def work():
        for _ in range(200):
            place, event = limit.enter(), threading.Event()
            place.listen(event.set)
            assert event.wait(20)
            with lock:
                inside[0] += 1
                worst[0] = max(worst[0], inside[0])
            with lock:
                inside[0] -= 1
            limit.leave(place)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert 1 <= worst[0] <= most
    assert [limit.enter().happened for _ in range(most + 1)] == [True] * most + [False]
