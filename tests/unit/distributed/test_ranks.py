"""What goes wrong in one of several processes is said in one line that names rank and update."""

from __future__ import annotations

import pytest
import torch

from data_utils.errors import RankError, RankInputError, UserError
from mt_dnn.distributed import ranks as distributed
from mt_dnn.distributed.launch import explained, process_group
from mt_dnn.distributed.launcher import BAD_INPUT
from mt_dnn.distributed.ranks import local_device, main_first

LAUNCHED = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


def raised(error: Exception) -> str:
    with pytest.raises(RankError) as found, explained(lambda: "after update 7"):
        raise error
    assert "\n" not in str(found.value)
    return str(found.value)


def test_out_of_memory_names_rank_update_and_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    for error in (
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ):
        assert "rank 3: after update 7: out of memory; lower train.batch_size" in raised(error)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:5", "has died"),
        ("[gloo/unbound_buffer.cc:84] Timed out waiting 1800000ms for recv\noperation", "does not answer"),
        ("NCCL error: remote process exited", "has died"),
    ],
)
def test_a_lost_rank_is_told_from_other_errors(text: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert f"rank 0: after update 7: another rank {reason}" in raised(RuntimeError(text))
    with pytest.raises(RuntimeError, match="shapes differ"), explained(lambda: ""):
        raise RuntimeError("shapes differ")


def test_missing_nccl_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
    with pytest.raises(UserError, match="no NCCL"), process_group(timeout_s=1):
        pass


def test_each_process_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_device("auto") == "auto"
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_RANK", "1"), ("RANK", "5")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    present: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", present.append)
    assert (local_device("auto"), local_device("cpu"), local_device("cuda:0")) == ("cuda:1", "cpu", "cuda:0")
    assert present == [1]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(UserError, match="device: cuda:0 is one GPU for several processes"):
        local_device("cuda:0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(RankInputError, match="2 or more processes need a GPU each, this machine has 1; start fewer"):
        local_device("cuda")


def test_alone_everything_is_one_s_own() -> None:
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    assert distributed.all_gather("x") == ["x"] and distributed.max_over_ranks(15) == 15
    assert main_first(lambda: 4) == 4


def test_too_few_devices_are_bad_input_so_that_the_launcher_does_not_start_again() -> None:
    assert RankInputError.exit_code == BAD_INPUT


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"WORLD_SIZE": "2"},
            "WORLD_SIZE=2 in the environment says that 2 processes train together, but RANK, MASTER_A",
        ),
        ({**LAUNCHED, "MASTER_PORT": ""}, "but MASTER_PORT is missing; start them with --gpus, torchrun or srun"),
        ({**LAUNCHED, "RANK": "2"}, "RANK=2 in the environment, but WORLD_SIZE is 2"),
        ({"RANK": "1"}, "RANK=1 in the environment, but WORLD_SIZE is 1"),
        ({"WORLD_SIZE": "0"}, "RANK=0 in the environment, but WORLD_SIZE is 0"),
        *(
            ({name: value}, f"{name}='{value}' in the environment is no number")
            for name in LAUNCHED
            if name != "MASTER_ADDR"
            for value in ("x", "-1", "1.0", "9" * 20)
        ),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK='x' in the environment is no number"),
    ],
    ids=str,
)
def test_an_environment_that_no_launcher_makes_is_named(
    variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*LAUNCHED, "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as found, process_group(timeout_s=1):
        pass
    assert said in str(found.value)


def test_an_empty_variable_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHED:
        monkeypatch.setenv(name, "")
    with process_group(timeout_s=1):
        pass
