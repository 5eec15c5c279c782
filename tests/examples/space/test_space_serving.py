import socket

import pytest

from viewer.serving import serve
from viewer.settings import parse_settings


def test_a_port_that_is_taken_is_told_before_models_are_opened():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        words = ["--encoder", "nowhere", "--port", str(port)]
        with pytest.raises(OSError, match=rf"127\.0\.0\.1:{port} cannot be served.* --port\."):
            serve(parse_settings(words))
