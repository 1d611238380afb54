"""Retries and waits."""

import pytest

from slipway.components.support.retry import retry, wait_until


class FakeClock:
    """Time passes while somebody sleeps, and only then."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        self.now += seconds
        self.waits.append(seconds)


@pytest.mark.parametrize(
    ("failures", "attempts", "calls", "succeeds"),
    [(0, 3, 1, True), (2, 3, 3, True), (3, 3, 3, False), (1, 1, 1, False)],
)
def test_attempts(failures: int, attempts: int, calls: int, succeeds: bool) -> None:
    made: list[int] = []

    def call() -> str:
        made.append(1)
        if len(made) <= failures:
            raise ConnectionError(f"attempt {len(made)}")
        return "done"

    if succeeds:
        assert retry(call, attempts=attempts, first_wait=0) == "done"
    else:
        with pytest.raises(ConnectionError, match=f"attempt {attempts}"):
            retry(call, attempts=attempts, first_wait=0)
    assert len(made) == calls


def test_an_error_that_is_not_worth_it_is_raised_at_once() -> None:
    made: list[int] = []

    def call() -> None:
        made.append(1)
        raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        retry(call, first_wait=0, when=lambda error: isinstance(error, ConnectionError))
    assert len(made) == 1


def test_waits_double_up_to_the_longest() -> None:
    clock = FakeClock()

    def call() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        retry(call, attempts=6, first_wait=0.5, longest_wait=4.0, clock=clock)
    assert clock.waits == [0.5, 1.0, 2.0, 4.0, 4.0]


def test_waiting_ends_with_the_first_yes_or_with_the_time() -> None:
    answers = iter([False, False, True, False])
    assert wait_until(lambda: next(answers), timeout=5, every=0)
    asked: list[int] = []
    clock = FakeClock()
    assert not wait_until(lambda: bool(asked.append(1)), timeout=5, every=2, clock=clock)
    assert clock.waits == [2, 2, 1]
    assert len(asked) == 4, "the last time is when the time is over"
    assert not wait_until(lambda: False, timeout=0)


@pytest.mark.parametrize(("within", "calls"), [(0, 1), (1, 2), (3, 3), (15, 5)])
def test_no_attempt_begins_after_the_time(within: float, calls: int) -> None:
    """An attempt that fails at once, and waits of 0.5, 1, 2, 4 … seconds."""
    clock = FakeClock()
    made: list[float] = []

    def call() -> None:
        made.append(clock.now)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        retry(call, within=within, longest_wait=60, clock=clock)
    assert len(made) == calls
    assert made[-1] - made[0] <= within


def test_an_error_can_ask_for_a_wait_of_its_own() -> None:
    """Where it does not, the waits are ours; the clock is the caller's."""
    clock = FakeClock()
    wishes = {2: 7.0}
    made: list[int] = []

    def call() -> None:
        made.append(1)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        retry(call, attempts=4, asked_to_wait=lambda error: wishes.get(len(made)), clock=clock)
    assert clock.waits == [0.5, 7.0, 2.0]
