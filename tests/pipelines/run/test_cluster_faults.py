"""What Dask raises, in one line that says what happened; and workers of other versions."""

import pickle
from concurrent.futures import CancelledError

import pytest
from distributed import KilledWorker, LocalCluster
from distributed.comm import CommClosedError

from infield import InfieldError
from infield.core import provenance
from infield.pipelines.run import cluster as module
from infield.pipelines.run.cluster import check_scheduler, client, on_worker


@pytest.fixture
def idle_scheduler():
    """A scheduler without a worker."""
    pages = dict.fromkeys(("dashboard_address", "worker_dashboard_address"), "127.0.0.1:0")
    with LocalCluster(n_workers=0, processes=False, protocol="tcp", host="127.0.0.1", **pages) as cluster:
        yield cluster.scheduler_address


def test_a_scheduler_without_workers(idle_scheduler, monkeypatch):
    monkeypatch.setattr(module, "WORKER_SECONDS", 0.2)
    with pytest.raises(InfieldError, match=r"found no worker within 0.2 s, .*; start one: dask worker"):
        check_scheduler(idle_scheduler)
    check_scheduler(None)  # negative control: threads of this process


@pytest.mark.parametrize(("address", "words"), [("tls://127.0.0.1:1", "TLS"), ("foo://127.0.0.1:1", "unknown address")])
def test_no_connection(address, words):
    with pytest.raises(InfieldError, match=rf"--scheduler {address}: no .*{words}"):
        check_scheduler(address)


TOLD = {
    "killed": (KilledWorker("draw", None, 3), "workers end while they draw"),
    "closed": (CommClosedError("in <TCP>: stream is closed"), "connection to the scheduler was lost"),
    "cancelled": (CancelledError(), "connection to the scheduler was lost"),
    "no infield": (ModuleNotFoundError("No module named 'infield'", name="infield"), "'infield' cannot be imported"),
    "its text alone": (Exception("""ModuleNotFoundError("No module named 'zarr'")"""), "'zarr' cannot be imported"),
}


@pytest.mark.parametrize("case", TOLD)
def test_what_goes_wrong_on_the_way(case):
    error, words = TOLD[case]
    with pytest.raises(InfieldError, match=words), module._explained("tcp://there:8786"):
        raise error


def test_errors_of_this_process_are_left_alone():
    error = ModuleNotFoundError("No module named 'infield_plugin'", name="infield_plugin")
    with pytest.raises(ModuleNotFoundError), module._explained(None):
        raise error
    with pytest.raises(ZeroDivisionError), module._explained("tcp://there:8786"):
        raise ZeroDivisionError


def test_a_worker_of_other_versions_is_refused():
    own = provenance.versions()
    assert on_worker(own, sum, [1, 2]) == 3
    assert on_worker({**own, "zarr": "2.0"}, sum, [1, 2]) == 3  # draws do not depend on it
    with pytest.raises(InfieldError, match=r"the worker on .*: found torch 1.0, expected") as refused:
        on_worker({**own, "torch": "1.0"}, sum, [1, 2])
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)


def test_an_error_of_a_task_arrives_as_it_is():
    with pytest.raises(InfieldError, match="found torch 0"), client(None, 1) as threads:
        threads.submit(on_worker, {"torch": "0"}, sum, [1]).result()
