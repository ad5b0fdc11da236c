"""The cluster file is what Ray's own schema accepts."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

FILE = Path(__file__).parents[1] / "ray_cluster.yaml"


def validated(config: dict) -> dict:
    # private to Ray, and pinned with it: the public `ray up` validates only on its way to a cloud
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(config)
    validate_config(prepared)
    return prepared


def test_the_cluster_file_passes_rays_validation():
    config = validated(yaml.safe_load(FILE.read_text()))
    assert config["available_node_types"][config["head_node_type"]]["resources"]["CPU"] == 0


def test_a_misspelt_key_would_be_caught():
    config = yaml.safe_load(FILE.read_text())
    config["max_wokers"] = config.pop("max_workers")
    with pytest.raises(Exception, match="max_wokers"):
        validated(config)


def test_the_dashboard_is_not_reachable_from_outside_and_every_connection_needs_a_token():
    commands = yaml.safe_load(FILE.read_text())
    for line in commands["head_start_ray_commands"] + commands["worker_start_ray_commands"]:
        if "ray start" in line:
            assert "RAY_AUTH_MODE=token" in line
    assert any("--dashboard-host=127.0.0.1" in line for line in commands["head_start_ray_commands"])
