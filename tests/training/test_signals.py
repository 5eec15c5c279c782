import os
import signal
import threading
import time

import pytest

from unimiss_hf.training import signals
from unimiss_hf.training.signals import StopRequest

# Says what it has seen, and ends when asked to or after a minute.
LOOP = """
def loop(stop):
    print("ready", flush=True)
    end = time.monotonic() + 60
    while not stop.requested and time.monotonic() < end:
        time.sleep(0.01)
    print(stop.signal_name, flush=True)
"""


def alone(program: str) -> str:
    return f"import time\n{LOOP}\n{program}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_becomes_a_flag_and_one_line(start, number):
    program = alone("""
with StopRequest() as stop:
    loop(stop)
print("saved")
""")
    process = start(signals, program)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    output, errors = process.communicate()
    assert output == f"{number.name}\nsaved\n"
    assert errors.count("\n") == 1
    assert errors.startswith(f"{number.name}: the state will be saved after this step.")
    assert "second SIGINT" in errors
    assert process.returncode == 0


def test_the_second_sigint_interrupts(start):
    program = alone("""
with StopRequest(announce=False) as stop:
    loop(stop)
    time.sleep(60)
print("not reached")
""")
    process = start(signals, program)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "SIGINT\n"
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert output == ""
    assert "KeyboardInterrupt" in errors
    assert "the state will be saved" not in errors
    assert process.returncode != 0


@pytest.mark.parametrize(
    ("first", "second"), [("SIGTERM", "SIGTERM"), ("SIGINT", "SIGTERM"), ("SIGTERM", "SIGINT")]
)
def test_sigterm_never_interrupts(start, first, second):
    program = alone("""
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
with StopRequest() as stop:
    loop(stop)
    signal.sigwait([signal.SIGUSR1])
    print("saved", stop.signal_name)
""")
    process = start(signals, program)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.Signals[first])
    assert process.stdout.readline() == f"{first}\n"
    process.send_signal(signal.Signals[second])
    time.sleep(0.2)
    process.send_signal(signal.SIGUSR1)
    output, errors = process.communicate()
    assert output == f"saved {first}\n"
    assert errors.count("the state will be saved") == 1


def test_the_handlers_of_before_are_back():
    def handler(number, frame):
        pass

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, handler) for number in numbers]
    try:
        with pytest.raises(RuntimeError, match="step"), StopRequest():
            assert all(signal.getsignal(number) is not handler for number in numbers)
            raise RuntimeError("step")
        assert all(signal.getsignal(number) is handler for number in numbers)
    finally:
        for number, previous in zip(numbers, before, strict=True):
            signal.signal(number, previous)


def test_in_another_thread_only_a_request_stops():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def run():
        with StopRequest() as stop:
            seen.append(signal.getsignal(signal.SIGTERM))
            seen.append(stop.requested)
            stop.request()
            seen.append(stop.requested)
            seen.append(stop.signal_name)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before, False, True, None]


def test_a_request_can_be_named():
    stop = StopRequest()
    stop.request("time limit")
    stop.request("other")
    assert (stop.requested, stop.signal_name) == (True, "time limit")


# -------------------------------------------------------------------------------- the parent

# Starts a child as `accelerate launch` does: waits for it, passes no signal on.
LAUNCHER = f"""
import subprocess, sys
child = '''
import runpy, sys, time
globals().update(runpy.run_path({signals.__file__!r}))
{LOOP}
with StopRequest(announce=False) as stop:
    print(follow_parent(), os.getpid(), flush=True)
    loop(stop)
'''
subprocess.Popen([sys.executable, "-c", child]).wait()
"""


@pytest.mark.parametrize("arguments", [["launch", "train.py"], ["launch", "--cpu", "train.py"]])
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_launcher_stops_the_run(tmp_path, start, end, arguments):
    (tmp_path / "accelerate").write_text(LAUNCHER)
    program = "import sys; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    launcher = start(signals, program, tmp_path / "accelerate", *arguments)
    followed, child = launcher.stdout.readline().split()
    assert followed == "True"
    assert launcher.stdout.readline() == "ready\n"
    launcher.send_signal(end)
    # The child holds the pipe open until it ends.
    output, _ = launcher.communicate()
    assert launcher.returncode == -end
    assert output == "SIGTERM\n"
    assert int(child) != launcher.pid


def test_a_parent_that_is_no_launcher_is_not_followed(tmp_path, start):
    (tmp_path / "shell.py").write_text(LAUNCHER)
    program = "import sys; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    parent = start(signals, program, tmp_path / "shell.py")
    followed, child = parent.stdout.readline().split()
    assert followed == "False"
    assert parent.stdout.readline() == "ready\n"
    parent.kill()
    parent.wait()
    # It goes on without its parent, until it is asked itself.
    os.kill(int(child), signal.SIGINT)
    assert parent.communicate()[0] == "SIGINT\n"


def test_any_parent_can_be_followed(start):
    process = start(signals, "print(follow_parent(), follow_parent(any_parent=True))")
    assert process.communicate()[0] == "False True\n"
