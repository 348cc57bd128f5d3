from __future__ import annotations

from flask_agentuity import wire
from flask_agentuity.wire import limits


def test_the_client_is_let_in_once() -> None:
    client = wire.ClientProtocol()
    assert client.opening("k") == wire.encode_authorization("k")
    assert isinstance(client.receive(wire.encode_success("1")), wire.Malformed)
    assert isinstance(client.receive(b"rubbish"), wire.Malformed)
    phases = [client.phase]
    assert client.receive(wire.encode_granted()) == wire.Granted()
    phases.append(client.phase)
    assert phases == [wire.Phase.WAITING, wire.Phase.GRANTED]
    assert client.receive(wire.encode_success("1")) == wire.Success("1")
    assert isinstance(client.receive(wire.encode_granted()), wire.Malformed)
    assert isinstance(client.receive(wire.encode_denied("late")), wire.Malformed)
    assert client.phase is wire.Phase.GRANTED


def test_a_denied_client_hears_nothing_more() -> None:
    client = wire.ClientProtocol()
    assert client.receive(wire.encode_denied("why")) == wire.Denied("why")
    assert client.phase is wire.Phase.DENIED
    assert isinstance(client.receive(wire.encode_granted()), wire.Malformed)
    assert isinstance(client.receive(wire.encode_success("1")), wire.Malformed)


def test_the_service_takes_requests_after_a_good_key_only() -> None:
    service = wire.ServiceEnd(lambda key: key == "good")
    decision = service.receive(wire.encode_authorization("good"))
    assert isinstance(decision, wire.Granted)
    assert service.answer(decision) == b'{"success":true,"edits":1}'
    client = wire.ClientProtocol()
    assert client.receive(service.answer(decision)) == wire.Granted({"edits": 1})
    assert service.key == "good"
    assert service.receive(wire.encode_restore("1", "t")) == wire.RestoreRequest("1", "t")
    refusal = service.receive(wire.encode_authorization("good"))
    assert isinstance(refusal, wire.Refusal)


def test_the_service_denies_everything_else() -> None:
    for first in (wire.encode_authorization("bad"), wire.encode_restore("1", "t"), b"", b"x" * 200):
        service = wire.ServiceEnd(lambda key: key == "good", max_frame_bytes=150)
        decision = service.receive(first)
        assert isinstance(decision, wire.Denied)
        assert wire.parse_reply(service.answer(decision)) == decision
        assert service.key is None
        assert isinstance(service.receive(wire.encode_authorization("good")), wire.Refusal)


def test_a_first_frame_is_small() -> None:
    padding = limits.MAX_AUTHORIZATION_BYTES - len(wire.encode_authorization(""))
    for size, phase in ((padding, wire.Phase.GRANTED), (padding + 1, wire.Phase.DENIED)):
        service = wire.ServiceEnd(lambda key: True)
        service.receive(wire.encode_authorization("k" * size))
        assert service.phase is phase


def test_a_frame_over_the_limit_is_not_even_read() -> None:
    service = wire.ServiceEnd(lambda key: True, max_frame_bytes=100)
    service.receive(wire.encode_authorization("good"))
    assert isinstance(service.receive(wire.encode_restore("1", "t" * 100)), wire.Refusal)
    client = wire.ClientProtocol(max_frame_bytes=100)
    assert isinstance(client.receive(b'{"success":true}'.ljust(101)), wire.Malformed)
