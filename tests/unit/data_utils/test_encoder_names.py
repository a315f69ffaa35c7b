"""Names of encoders: packages, and what is said if the hub does not answer."""

from __future__ import annotations

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from data_utils.encoder_names import is_unreachable, resolve_name
from data_utils.errors import UserError
from data_utils.features import load_tokenizer


@pytest.mark.parametrize("name", ["package:..", "package:../x", "package:.x/y", "package:/x", "package:a b"])
def test_what_is_no_name_of_a_package_is_said(name: str) -> None:
    with pytest.raises(UserError, match="is no name of a package; write package:<package>/<folder>"):
        resolve_name(name)


def test_a_tokenizer_of_the_hub_without_the_hub_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^tokenizer 'owner/absent': the hub cannot be reached .*; give a folder or"):
        load_tokenizer("owner/absent")


def test_what_lies_behind_an_error_counts() -> None:
    try:
        try:
            raise LocalEntryNotFoundError("no connection")
        except LocalEntryNotFoundError as error:
            raise OSError("cannot load") from error
    except OSError as error:
        assert is_unreachable(error)
    assert not is_unreachable(OSError("cannot load"))
