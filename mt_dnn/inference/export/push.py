"""Uploads an exported folder to a repository of the Hugging Face hub."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError

from data_utils.errors import NotSaved, UserError

TOKEN = "HF_TOKEN"


def token_of() -> str:
    """The token in the environment. Tokens are read from nowhere else, and never printed.

    Raises:
        UserError: there is none.
    """
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise UserError(f"--push: {TOKEN} is not set; put a token of the hub that may write into this variable")
    return token


def push_folder(folder: Path, repository: str, token: str) -> str:
    """Uploads all files of a folder in one commit. A repository that does not exist is made, as a private one.

    A name without an owner is one of the owner of the token. The variable HF_ENDPOINT names another hub.

    Returns:
        The address of the commit.

    Raises:
        UserError: the name of the repository is wrong.
        NotSaved: the hub cannot be reached, or it refuses. The folder stays.
    """
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
    try:
        repository = api.create_repo(repository, private=True, exist_ok=True).repo_id  # with its owner
        commit = api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Export of mt-dnn")
    except HFValidationError as error:
        raise UserError(f"--push: {_reason(error)}; write it as name/repository") from None
    except Exception as error:  # of the hub, and of the HTTP client, which differs between versions of huggingface_hub
        raise NotSaved(
            f"{repository}: not pushed ({_reason(error)}); {folder} is complete, so push it later with: "
            f"hf upload {repository} {shlex.quote(str(folder))} . --private"
        ) from None
    return commit.commit_url


def _reason(error: Exception) -> str:
    """The first line of the message, or the name of the error if it has none."""
    message = str(error).strip()
    return message.splitlines()[0] if message else type(error).__name__
