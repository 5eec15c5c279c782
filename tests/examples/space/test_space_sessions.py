import pytest

from viewer.sessions import Sessions


@pytest.fixture
def sessions(tmp_path):
    return Sessions(tmp_path, most=3, idle_seconds=100)


def test_a_session_goes_with_its_files(sessions):
    session = sessions.start("a")
    (session.path / "labels.nii.gz").write_bytes(b"x")
    assert sessions.get("a") is session
    sessions.drop("a")
    assert not session.path.exists() and sessions.get("a") is None
    sessions.drop("a")


def test_nobody_has_the_session_of_another(sessions):
    first, second = sessions.start("a"), sessions.start("b")
    assert sessions.get("a") is first and sessions.get("b") is second
    assert first.path != second.path
    assert sessions.get("c") is None


def test_a_new_image_drops_the_old_one(sessions):
    first = sessions.start("a")
    assert sessions.start("a") is not first
    assert not first.path.exists() and len(sessions) == 1


def test_the_session_that_was_idle_longest_makes_room(sessions):
    for key in "abc":
        sessions.start(key)
    sessions.get("a")
    sessions.start("d")
    assert sessions.get("b") is None
    assert all(sessions.get(key) for key in "acd")


def test_sessions_that_nobody_uses_are_dropped(sessions):
    idle, used = sessions.start("a"), sessions.start("b")
    idle.last_used -= 200
    assert sessions.get("b") is used
    assert not idle.path.exists() and len(sessions) == 1
    used.last_used -= 200
    assert sessions.get("b") is None
