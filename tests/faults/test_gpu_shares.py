"""Runs that share GPUs of a cluster: scheduled by Ray for real, on GPUs that are not there."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

BODY = """
executor.examine(examination)
slots = executor.slots
found = done(3 * slots, seconds=2.0)
executor.only_cpus()
print(json.dumps({"slots": slots, "found": found, "on_cpus": executor.slots, "said": said}))
executor.close()
"""


def most_at_once(spans: list[dict]) -> int:
    """How many of them overlap at most."""
    return max(sum(other["begun"] <= one["begun"] < other["ended"] for other in spans) for one in spans)


@pytest.mark.parametrize(("share", "per_gpu"), [(0.25, 4), (0.4, 2)])
def test_so_many_runs_as_fit_share_each_gpu_and_see_that_one_alone(emulated, driving, share, per_gpu):
    """Two GPUs, and more CPUs than runs fit on them."""
    cluster = emulated(nodes=1, gpus=2, cpus=2 * per_gpu + 1)
    told = driving(cluster, BODY, {"gpus_per_run": share})
    assert told["slots"] == 2 * per_gpu
    assert len(told["found"]) == 6 * per_gpu
    assert {one["gpus"] for one in told["found"]} == {"0", "1"}
    for gpu in ("0", "1"):
        assert most_at_once([one for one in told["found"] if one["gpus"] == gpu]) == per_gpu
    assert most_at_once(told["found"]) == 2 * per_gpu
    assert told["on_cpus"] == 2 * per_gpu + 1


def test_a_run_with_two_gpus_sees_both(emulated, driving):
    told = driving(emulated(nodes=1, gpus=2, cpus=3), BODY, {"gpus_per_run": 2})
    assert told["slots"] == 1
    assert [one["gpus"] for one in told["found"]] == ["0,1"] * 3
    assert most_at_once(told["found"]) == 1


def test_a_study_on_shares_of_a_gpu_is_trained_and_measured_by_one_start_of_ray(emulated, driving, study_file, store):
    """On the CPU: what a GPU would compute is not asked here. Its memory cannot be, which is doubted."""
    told = driving(
        emulated(nodes=1, gpus=1, cpus=4),
        f"""
executor.close()
submits.leave(store.folder, driver)
import ray
from algoprogress.ablations.probes import Probing, Spectra
from algoprogress.ablations.study_file import load
from algoprogress.pipeline.curvature import stage
from algoprogress.pipeline.plan import resolve
from algoprogress.pipeline.progress import Progress
from algoprogress.pipeline.submit import submit

class Told(Progress):
    def say(self, line):
        said.append(line)

def make():
    return RayExecutor(address=address, gpus_per_run=0.5)

def init(**options):
    starts.append(options["address"])
    return real(**options)

starts, real, ray.init = [], ray.init, init
probing = Probing(probe=Spectra(probes=1, steps=3, batch_tokens=64), at=(0,), arms=("modern",))
study = load({str(study_file(compute=[2e8]))!r}).model_copy(update={{"probes": (probing,)}})
study, store = resolve(study), Store({store.url!r})
then = lambda opened, watch: stage.run(study, store, opened, said.append, watch)
summary = submit(study, store, make, Told(), then, ensembles=False, gpus_per_run=0.5)
left, probes = len(stage.todo(study, store)), len(store.spectra()["probe_id"].unique())
facts = {{"trained": summary.trained, "failed": summary.failed, "left": left, "probes": probes}}
print(json.dumps({{**facts, "said": said, "starts": len(starts)}}))
""",
    )
    assert (told["trained"], told["failed"], told["starts"]) == (4, {}, 1)
    assert (told["probes"], told["left"]) == (2, 0)
    assert store.submits().empty
    assert not store.folder.entries("submits")
    assert sum("does not tell the memory of its GPUs: 0.5 of one may be" in line for line in told["said"]) == 1
