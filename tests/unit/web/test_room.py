"""Room that is bounded, and its word on when to come back."""

from __future__ import annotations

import pytest

from app.web import room
from app.web.room import Busy, Room


def test_who_finds_no_room_is_sent_away_and_takes_none() -> None:
    places = Room(3)
    with places.places(2):
        with pytest.raises(Busy, match="ask again in 1 s"), places.places(2):
            pass
        with places.places(1):
            assert places.taken == 3
    assert places.taken == 0


def test_what_fails_gives_its_places_back() -> None:
    places = Room(1)
    with pytest.raises(ZeroDivisionError), places.places(1):
        1 / 0  # noqa: B018
    with places.places(1):
        pass


def test_how_long_to_stay_away_follows_from_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(room.time, "monotonic", lambda: now)
    places = Room(10)
    with places.places(9):
        for _ in range(200):  # half a second a place
            with places.places(1):
                now += 0.5
        with pytest.raises(Busy) as busy, places.places(2):
            pass
    assert busy.value.seconds in (4, 5)
    with places.places(9):
        for _ in range(200):
            with places.places(1):
                now += 100
        with pytest.raises(Busy) as busy, places.places(2):
            pass
    assert busy.value.seconds == 30
