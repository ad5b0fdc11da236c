"""The cluster files are what Ray's schema, KubeRay's resource and Slurm's commands accept."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
import yaml

from algoprogress.results import Store

ROOT = Path(__file__).parents[1]
CLUSTERS = [ROOT / "ray_cluster.yaml", ROOT / "deploy" / "onprem.yaml"]

# Fields of the RayJob resource of KubeRay, ray.io/v1, as of August 2026 (those of a pod are Kubernetes' own)
RAYJOB = {
    "activeDeadlineSeconds",
    "backoffLimit",
    "clusterSelector",
    "deletionStrategy",
    "entrypoint",
    "entrypointNumCpus",
    "entrypointNumGpus",
    "entrypointResources",
    "jobId",
    "managedBy",
    "metadata",
    "preRunningDeadlineSeconds",
    "rayClusterSpec",
    "runtimeEnvYAML",
    "shutdownAfterJobFinishes",
    "submissionMode",
    "submitterConfig",
    "submitterPodTemplate",
    "suspend",
    "ttlSecondsAfterFinished",
}
RAYCLUSTER = {
    "authOptions",
    "autoscalerOptions",
    "enableInTreeAutoscaling",
    "gcsFaultToleranceOptions",
    "headGroupSpec",
    "headServiceAnnotations",
    "historyServerOptions",
    "managedBy",
    "networkPolicy",
    "rayVersion",
    "suspend",
    "tlsOptions",
    "upgradeStrategy",
    "workerGroupSpecs",
}
HEAD = {
    "enableIngress",
    "headService",
    "ingressOptions",
    "labels",
    "rayStartParams",
    "resources",
    "serviceType",
    "template",
}
WORKERS = {
    "groupName",
    "idleTimeoutSeconds",
    "labels",
    "maxReplicas",
    "minReplicas",
    "numOfHosts",
    "priority",
    "rayStartParams",
    "replicas",
    "resources",
    "scaleStrategy",
    "suspend",
    "template",
}


def validated(config: dict) -> dict:
    # private to Ray, and pinned with it: the public `ray up` validates only on its way to a cloud
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(config)
    validate_config(prepared)
    return prepared


@pytest.mark.parametrize("file", CLUSTERS, ids=lambda p: p.name)
class TestClusterFiles:
    def test_passes_rays_validation_and_places_no_run_on_the_head(self, file):
        config = validated(yaml.safe_load(file.read_text()))
        if config["provider"]["type"] == "local":
            assert any("--num-cpus=0" in line for line in config["head_start_ray_commands"])
        else:
            assert config["available_node_types"][config["head_node_type"]]["resources"]["CPU"] == 0

    def test_a_misspelt_key_would_be_caught(self, file):
        config = yaml.safe_load(file.read_text())
        config["max_wokers"] = config.pop("max_workers")
        with pytest.raises(Exception, match="max_wokers"):
            validated(config)

    def test_the_dashboard_is_not_reachable_from_outside_and_every_connection_needs_a_token(self, file):
        commands = yaml.safe_load(file.read_text())
        lines = commands["head_start_ray_commands"] + commands["worker_start_ray_commands"]
        starts = [line for line in lines if "ray start" in line]
        assert len(starts) == 2
        assert all("RAY_AUTH_MODE=token" in line for line in starts)
        assert "--dashboard-host=127.0.0.1" in starts[0]
        assert "~/.ray/auth_token" in commands["file_mounts"]

    def test_each_node_installs_the_checkout_that_is_copied_to_it(self, file):
        config = yaml.safe_load(file.read_text())
        assert config["file_mounts"]["~/algoprogress"] == "."
        assert any("pip install" in line and "-e" in line for line in config["setup_commands"])
        assert all("-c deploy/constraints.txt" in line for line in config["setup_commands"] if "pip install" in line)
        assert {".git", ".venv", "results/data"} <= set(config["rsync_exclude"])


def test_the_pinned_versions_are_allowed_ones_of_all_that_must_be_equal_on_all_nodes():
    import tomllib

    from packaging.requirements import Requirement

    from algoprogress.pipeline.examination import PACKAGES

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    allowed = {r.name: r.specifier for r in map(Requirement, project)}
    lines = (ROOT / "deploy" / "constraints.txt").read_text().splitlines()
    pinned = {r.name: str(r.specifier) for r in map(Requirement, (x for x in lines if not x.startswith("#")))}
    assert set(pinned) == set(PACKAGES) - {"algoprogress"}  # which is the checkout
    for name, version in pinned.items():
        assert version.startswith("==")
        assert version.removeprefix("==") in allowed[name]


class TestCloud:
    @pytest.fixture
    def config(self) -> dict:
        return yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())

    def test_every_node_names_an_image_that_ray_hands_on_to_ec2_as_it_is(self, config):
        from ray.autoscaler._private.aws.config import _check_ami

        before = {name: kind["node_config"]["ImageId"] for name, kind in config["available_node_types"].items()}
        _check_ami(config)  # which puts an Ubuntu 18.04 where it finds none
        after = {name: kind["node_config"]["ImageId"] for name, kind in config["available_node_types"].items()}
        assert after == before
        assert all(image.startswith("resolve:ssm:/aws/service/") and "24.04" in image for image in after.values())

    def test_the_heads_own_venv_has_what_rays_provider_imports(self, config):
        assert any(".venv/bin/pip install" in line and "boto3" in line for line in config["head_setup_commands"])
        assert all("~/algoprogress" in line for line in config["head_start_ray_commands"])

    def test_every_node_may_use_the_bucket_by_a_profile_of_its_own(self, config):
        names = [kind["node_config"]["IamInstanceProfile"]["Name"] for kind in config["available_node_types"].values()]
        assert len(set(names)) == len(config["available_node_types"])


class TestKubeRay:
    @pytest.fixture
    def job(self) -> dict:
        return yaml.safe_load((ROOT / "deploy" / "kuberay.yaml").read_text())

    def test_has_no_field_that_the_resource_does_not_know(self, job):
        cluster = job["spec"]["rayClusterSpec"]
        assert job["apiVersion"] == "ray.io/v1"
        assert set(job["spec"]) <= RAYJOB
        assert set(cluster) <= RAYCLUSTER
        assert set(cluster["headGroupSpec"]) <= HEAD
        for group in cluster["workerGroupSpecs"]:
            assert set(group) <= WORKERS
            assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]

    def test_needs_a_token_and_runs_nothing_on_the_head(self, job):
        cluster = job["spec"]["rayClusterSpec"]
        assert cluster["authOptions"] == {"mode": "token"}
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"

    def test_its_ray_is_within_the_pinned_range(self, job):
        import tomllib

        from packaging.requirements import Requirement

        lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        ray = next(r for r in map(Requirement, lines) if r.name == "ray")
        assert job["spec"]["rayClusterSpec"]["rayVersion"] in ray.specifier

    def test_its_command_is_one_that_submit_takes(self, job):
        words = job["spec"]["entrypoint"].split()
        assert words[:2] == ["algoprogress", "submit"]
        done = subprocess.run([sys.executable, "-m", "algoprogress.pipeline.cli", "submit", "--help"],
                              capture_output=True, text=True, check=True)  # fmt: skip
        assert all(word in done.stdout for word in words if word.startswith("--"))


class TestSlurm:
    script = ROOT / "deploy" / "slurm.sh"

    def test_is_valid_bash_and_asks_for_what_it_uses(self):
        subprocess.run(["bash", "-n", self.script], check=True)
        text = self.script.read_text()
        for wanted in ("--nodes", "--ntasks-per-node=1", "--cpus-per-task", "--gpus-per-node", "--signal=B:TERM"):
            assert f"#SBATCH {wanted}" in text

    def test_each_step_that_starts_ray_says_how_many_cores_it_has(self):
        steps = [line for line in self.script.read_text().splitlines() if "srun " in line and "ray start" in line]
        assert len(steps) == 2 and all('--cpus-per-task="$cpus"' in step for step in steps)

    @pytest.mark.parametrize(("words", "said"), [((), "usage: sbatch"), (("smoke",), "set it to a folder")])
    def test_says_what_is_missing(self, words, said):
        environment = {k: v for k, v in os.environ.items() if k != "ALGOPROGRESS_STORE"}
        done = subprocess.run([self.script, *words], capture_output=True, text=True, env=environment, check=False)
        assert done.returncode != 0
        assert said in done.stderr

    def test_the_heads_port_is_none_that_ray_gives_its_workers(self):
        from ray.scripts.scripts import start

        default = {option.name: option.default for option in start.params}
        (line,) = (line for line in self.script.read_text().splitlines() if line.startswith("port="))
        ids = "1 2 9999 10000 10001 12345 19999 20000 98765"
        loop = f"for SLURM_JOB_ID in {ids}; do {line.partition('#')[0]}; echo $port; done"
        ports = subprocess.run(["bash", "-c", loop], capture_output=True, text=True, check=True).stdout.split()
        assert len(set(ports)) > 5
        for port in map(int, ports):
            assert not default["min_worker_port"] <= port <= default["max_worker_port"]
            assert 1024 < port < 32768  # neither reserved nor one that Linux hands out

    @pytest.fixture
    def allocated(self, tmp_path, small_study_file):
        """`allocated(names, srun)`: what the script did on nodes of these names, with stand-ins for Slurm's commands.

        Ray, the study and the store are real; `srun` is bash on what a node, `$node`, does before its command.
        """

        def run(names: list[str], srun: str = "", **environment: str) -> subprocess.CompletedProcess:
            tools = tmp_path / "tools"
            tools.mkdir()
            address = "127.0.0.1" if len(names) == 1 else own_address()
            for name, body in {
                "scontrol": f"printf '%s\\n' {' '.join(names)}",
                "srun": f'while [[ $1 == -* ]]; do [[ $1 == -w ]] && shift && node=$1; shift; done; {srun}\nexec "$@"',
                "hostname": f'[[ ${{1:-}} == -I ]] && echo "{address} " || echo here',
                "algoprogress": f'touch {tmp_path}/begun\nexec {sys.executable} -m algoprogress.pipeline.cli "$@"',
            }.items():
                file = tools / name
                file.write_text(f"#!/usr/bin/env bash\n{body}\n")
                file.chmod(file.stat().st_mode | stat.S_IXUSR)
            told = os.environ | {
                "PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}",
                "SLURM_JOB_NODELIST": "here", "SLURM_JOB_ID": str(os.getpid()), "SLURM_CPUS_PER_TASK": "1",
                "SLURM_GPUS_ON_NODE": "0", "ALGOPROGRESS_STORE": str(tmp_path / "runs"),
                "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_TMPDIR": "/tmp",
                "ALGOPROGRESS_CACHE": str(tmp_path / "cache"), **environment,
            }  # fmt: skip
            if len(names) > 1:
                del told["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"]  # with it, no second node may join
            return subprocess.run([self.script, small_study_file], capture_output=True, text=True, env=told,
                                  cwd=tmp_path, timeout=120, check=False)  # fmt: skip

        return run

    @pytest.mark.slow
    def test_trains_a_study_on_an_allocation_of_this_machine(self, tmp_path, allocated):
        done = allocated(["here"])
        assert done.returncode == 0, done.stderr
        assert "nodes have joined" not in done.stderr
        assert len(Store(str(tmp_path / "runs")).runs()) == 2

    @pytest.mark.slow
    def test_waits_for_a_node_that_is_slow_to_start(self, tmp_path, allocated):
        done = allocated(["here", "slow"], f"[[ $node == slow ]] && sleep 12 && touch {tmp_path}/came")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "begun").stat().st_mtime > (tmp_path / "came").stat().st_mtime
        assert "nodes have joined" not in done.stderr
        assert len(Store(str(tmp_path / "runs")).runs()) == 2

    @pytest.mark.slow
    def test_begins_without_a_node_that_does_not_come_and_says_so(self, tmp_path, allocated):
        done = allocated(["here", "never"], "[[ $node == never ]] && exec sleep 600", ALGOPROGRESS_JOIN_SECONDS="8")
        assert done.returncode == 0, done.stderr
        assert "1 of 2 nodes have joined Ray" in done.stderr
        assert "ALGOPROGRESS_JOIN_SECONDS gives them longer" in done.stderr
        assert len(Store(str(tmp_path / "runs")).runs()) == 2
        assert not [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "600"]]


def own_address() -> str:
    """An address of this machine that is not loopback, as a node of a cluster has one."""
    from ray.util import get_node_ip_address

    return get_node_ip_address()


@pytest.fixture
def small_study_file(tmp_path: Path) -> Path:
    words = tmp_path / "words.txt"
    words.write_text("<|endoftext|>".join(f"{k} small words for a small study " * 40 for k in range(200)))
    file = tmp_path / "small.yaml"
    file.write_text(
        textwrap.dedent(f"""
        name: small
        question: Does the batch script train it?
        baseline: lstm
        common:
          data: {{corpus: {words}, context: 32}}
          batch_tokens: 256
          learning_rate: 0.02
          evaluation: {{tokens: 1024}}
        arms:
          lstm: {{architecture: {{name: lstm, width: 16}}, compute: [2.0e+8]}}
          modern: {{architecture: {{preset: modern, width: 16, n_layers: 1}}, compute: [2.0e+8]}}
        """)
    )
    return file
