"""SCRAM: RFC 7677's vector, strangers and wrong passwords that look alike, trust for this machine only."""

from __future__ import annotations

import base64

import pytest
from scramp import ScramClient, ScramMechanism

from filestore import errors
from filestore.server.pgwire.auth import (
    Authenticator,
    ScramExchange,
    is_loopback,
    parse_verifier,
    verifier_of,
)

MECHANISM = "SCRAM-SHA-256"


def authenticator(**passwords: str) -> Authenticator:
    verifiers = {user: str(verifier_of(password)) for user, password in passwords.items()}
    return Authenticator(verifiers.get, frozenset({"postgres", "other"}))


def log_in(exchange: ScramExchange, password: str) -> None:
    client = ScramClient([MECHANISM], "ignored", password)
    client.set_server_first(exchange.first(MECHANISM, client.get_client_first().encode()).decode())
    client.set_server_final(exchange.final(client.get_client_final().encode()).decode())


def test_the_vector_of_rfc_7677() -> None:
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    info = ScramMechanism(MECHANISM).make_auth_info("pencil", iteration_count=4096, salt=salt)
    verifier = parse_verifier(
        f"{MECHANISM}$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
        f"{base64.b64encode(info[1]).decode()}:{base64.b64encode(info[2]).decode()}"
    )
    exchange = ScramExchange("user", verifier, real=True)
    exchange._server.s_nonce = type(exchange._server.s_nonce)("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    first = exchange.first(MECHANISM, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    assert first == b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    final = exchange.final(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert final == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_the_right_password() -> None:
    exchange = authenticator(postgres="pass wörd").begin("postgres", "127.0.0.1")
    assert exchange is not None
    log_in(exchange, "pass wörd")


def test_a_stranger_and_a_wrong_password_are_told_the_same() -> None:
    rules = authenticator(postgres="secret")
    texts = []
    for user, password in [("postgres", "wrong"), ("other", "secret"), ("nobody", "secret")]:
        exchange = rules.begin(user, "127.0.0.1")
        assert exchange is not None
        with pytest.raises(errors.InvalidPassword) as caught:
            log_in(exchange, password)
        assert caught.value.severity == "FATAL"
        texts.append(caught.value.message.replace(user, "X"))
    assert set(texts) == {'password authentication failed for user "X"'}


def test_a_strangers_salt_does_not_change() -> None:
    rules = authenticator(postgres="secret")
    salts = set()
    for _ in range(2):
        exchange = rules.begin("nobody", "127.0.0.1")
        assert exchange is not None
        answer = exchange.first(MECHANISM, b"n,,n=,r=abc").decode()
        salts.add(answer.split(",")[1])
    assert len(salts) == 1


def test_trust_is_for_this_machine_while_no_password_is_set() -> None:
    rules = authenticator()
    assert rules.begin("postgres", "127.0.0.1") is None
    assert rules.begin("postgres", "::1") is None
    assert rules.begin("postgres", "192.0.2.1") is not None
    assert rules.begin("postgres", None) is not None
    with pytest.raises(errors.InvalidAuthorization) as caught:
        rules.begin("nobody", "127.0.0.1")
    assert caught.value.message == 'role "nobody" does not exist'


@pytest.mark.parametrize(
    ("address", "local"), [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("10.0.0.1", False), ("x", False)]
)
def test_loopback(address: str, local: bool) -> None:
    assert is_loopback(address) is local


@pytest.mark.parametrize("data", [b"", b"n,,", b"\xff", b"n,,n=,r=", b"p=tls-unique,,n=,r=abc", None])
def test_malformed_first_messages(data: bytes | None) -> None:
    exchange = authenticator(postgres="secret").begin("postgres", "127.0.0.1")
    assert exchange is not None
    with pytest.raises(errors.ProtocolViolation):
        exchange.first(MECHANISM, data)


def test_only_sha_256_is_offered() -> None:
    exchange = authenticator(postgres="secret").begin("postgres", "127.0.0.1")
    assert exchange is not None
    with pytest.raises(errors.ProtocolViolation):
        exchange.first("SCRAM-SHA-1", b"n,,n=,r=abc")


@pytest.mark.parametrize("text", ["", "md5abc", "SCRAM-SHA-256$4096:!!$a:b", "SCRAM-SHA-256$x:YQ==$YQ==:YQ=="])
def test_what_is_no_verifier(text: str) -> None:
    with pytest.raises(errors.InvalidParameterValue):
        parse_verifier(text)
