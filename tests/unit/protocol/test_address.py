"""Which noyau a client means."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.address import find_address
from protocol.curve import ClientCurve, new_key_pair
from protocol.endpoints import from_afar, resolved
from protocol.errors import InvalidRequest, NotRunning, UnusableKey
from protocol.keyfiles import write_key_pair

A = "aa" * 32


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path), "XDG_RUNTIME_DIR": "/run/user/7"}


def test_without_a_word_it_is_the_one_on_this_machine(environ: dict[str, str]) -> None:
    address = find_address(environ=environ)
    assert address.endpoint == "ipc:///run/user/7/noyau/supervisor"
    assert (address.curve, address.run_folder) == (None, Path("/run/user/7/noyau"))
    assert "noyau up" in address.not_running("").message


def test_a_run_folder_that_is_named_is_meant_whatever_the_variables_say(
    environ: dict[str, str],
) -> None:
    environ |= {"NOYAU_SERVER": "tcp://lab:5570", "NOYAU_RUN__FOLDER": "/other"}
    assert find_address("/x", environ=environ).endpoint == "ipc:///x/supervisor"
    assert find_address(Path("/x"), environ=environ).run_folder == Path("/x")


def test_another_machine_is_named_by_word_or_by_variable(
    environ: dict[str, str], tmp_path: Path
) -> None:
    default, desk = new_key_pair(), new_key_pair()
    write_key_pair(tmp_path / "noyau" / "keys" / "default.key", default)
    write_key_pair(tmp_path / "noyau" / "keys" / "desk.key", desk)
    named = find_address("tcp://[::1]:1", server_key=A.upper(), key="desk", environ=environ)
    assert named.endpoint == "tcp://[::1]:1"
    assert named.curve == ClientCurve(A, desk)
    variables = environ | {"NOYAU_SERVER": "tcp://lab:5570", "NOYAU_SERVER_KEY": A}
    assert find_address(environ=variables).curve == ClientCurve(A, default)
    assert find_address(environ=variables | {"NOYAU_KEY": "desk"}).curve == ClientCurve(A, desk)
    error = named.not_running("why")
    assert isinstance(error, NotRunning)
    assert f"noyau keys authorize {desk.public}" in error.message
    assert desk.secret not in error.message


@pytest.mark.parametrize("where", ["tcp://lab", "tcp://:1", "http://lab:80", "tcp://a b:1", "x://"])
def test_what_is_no_address_is_told_with_an_example(where: str, environ: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="tcp://192"):
        find_address(where, server_key=A, environ=environ)


def test_what_the_variable_names_is_never_a_folder_of_this_machine(
    environ: dict[str, str],
) -> None:
    for named in ("192.168.1.20:5570", "/run/noyau", "lab"):
        with pytest.raises(InvalidRequest, match="is no address"):
            find_address(environ=environ | {"NOYAU_SERVER": named, "NOYAU_SERVER_KEY": A})


def test_a_server_whose_key_is_not_known_is_not_spoken_to(environ: dict[str, str]) -> None:
    with pytest.raises(UnusableKey, match="noyau keys list"):
        find_address("tcp://lab:1", environ=environ)
    with pytest.raises(UnusableKey, match="noyau keys new"):
        find_address("tcp://lab:1", server_key=A, environ=environ)


def test_a_directory_read_from_afar_means_the_host_that_was_asked() -> None:
    assert from_afar("tcp://0.0.0.0:5571") == from_afar("tcp://[::]:5571") == "tcp://*:5571"
    assert from_afar("") == ""
    assert resolved("tcp://*:5571", "tcp://[fe80::1]:5570") == "tcp://[fe80::1]:5571"
    assert resolved("ipc:///r/storage.1", "ipc:///r/supervisor") == "ipc:///r/storage.1"
    assert resolved("", "tcp://lab:5570") == ""
