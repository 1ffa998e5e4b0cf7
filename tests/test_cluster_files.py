"""cluster.yaml by Ray's own validator, and the manifest for KubeRay by the fields of its custom resource."""

from __future__ import annotations

import copy
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
from ray.autoscaler._private.resource_demand_scheduler import _default_utilization_scorer, get_nodes_for
from ray.autoscaler._private.util import prepare_config, validate_config
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "cluster.yaml"
RAY_JOB = ROOT / "examples/rayjob.yaml"


def read(path: Path) -> dict[str, Any]:
    root: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text())
    return root


@pytest.mark.parametrize("path", [CLUSTER, RAY_JOB], ids=lambda path: path.name)
def test_four_lines_are_to_be_changed(path):
    lines = path.read_text().splitlines()
    marked = [line for line in lines if re.search(r"# [1-4]\b", line) and not line.lstrip().startswith("#")]
    assert sorted(re.search(r"# ([1-4])\b", line).group(1) for line in marked) == ["1", "2", "3", "4"]
    assert "Change four lines, marked 1 to 4." in path.read_text()


# --- cluster.yaml -----------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster() -> dict[str, Any]:
    return read(CLUSTER)


def test_ray_takes_the_cluster(cluster):
    prepared = prepare_config(copy.deepcopy(cluster))
    validate_config(prepared)
    # Nothing of Ray's defaults is left where it would be wrong: an old image, packages without pins.
    commands = prepared["head_setup_commands"] + prepared["worker_setup_commands"]
    assert all("constraints.txt" in command for command in commands if "pip install" in command)
    assert all("ImageId" in kind["node_config"] for kind in prepared["available_node_types"].values())
    assert prepared["docker"] == {}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c.update(worker_nodes_max=3),
        lambda c: c.pop("provider"),
        lambda c: c["available_node_types"]["worker"].update(max_worker=3),
        lambda c: c["available_node_types"]["worker"].pop("resources"),
        lambda c: c["available_node_types"]["head"]["resources"].update(CPU="none"),
        lambda c: c.update(head_node_type="heads"),
        lambda c: c.update(max_workers="16"),
        lambda c: c.update(setup_commands="pip install ."),
    ],
)
def test_ray_refuses_a_spoilt_copy(cluster, spoil: Callable[[dict[str, Any]], object]):
    spoil(cluster)
    with pytest.raises((jsonschema.ValidationError, ValueError, KeyError, TypeError)):
        validate_config(prepare_config(cluster))


def test_the_head_only_drives_and_workers_are_spot_instances_with_a_disk(cluster):
    types = cluster["available_node_types"]
    assert types[cluster["head_node_type"]]["resources"] == {"CPU": 0}
    workers = {name: kind for name, kind in types.items() if name != cluster["head_node_type"]}
    assert len(workers) > 1
    for kind in workers.values():
        machine = kind["node_config"]
        assert machine["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert re.match(r"[a-z]\d+[a-z]*d[a-z]*\.", machine["InstanceType"])
        assert machine["IamInstanceProfile"] == types["head"]["node_config"]["IamInstanceProfile"]
    assert cluster["provider"]["region"]


def test_the_marked_type_is_the_first_choice(cluster):
    types = prepare_config(cluster)["available_node_types"]
    for kind in types.values():
        kind["resources"].setdefault("CPU", 32)

    def score(*args: Any) -> Any:
        return _default_utilization_scorer(*args, node_availability_summary=None)

    assert get_nodes_for(types, {}, "head", 16, [{"CPU": 1}] * 64, score)[0] == {"worker": 2}


def test_the_commands_are_commands(cluster):
    commands = [command for key, value in cluster.items() if key.endswith("_commands") for command in value]
    assert len(commands) > 8
    for command in commands:
        subprocess.run(["bash", "-n", "-c", command], check=True)
    text = "\n".join(commands)
    for wanted in (
        "TMPDIR=/mnt/scratch",
        "NUMBA_CACHE_DIR=",
        "--object-spilling-directory=/mnt/scratch",
        "mkfs",
        "pipeline.jobs.warm",
    ):
        assert wanted in text
    assert text.count("--object-spilling-directory=") == 2


# --- examples/rayjob.yaml ---------------------------------------------------------------------------------------------

# The documented fields of ray.io/v1: name, type, and whether it is needed here.
RAY_JOB_SPEC = {
    "entrypoint": str, "submissionMode": str, "backoffLimit": int, "shutdownAfterJobFinishes": bool, "rayClusterSpec": dict,
    "runtimeEnvYAML": str, "submitterConfig": dict, "ttlSecondsAfterFinished": int, "activeDeadlineSeconds": int,
    "preRunningDeadlineSeconds": int, "suspend": bool, "deletionStrategy": dict, "clusterSelector": dict, "jobId": str,
    "entrypointNumCpus": float, "entrypointNumGpus": float, "entrypointResources": str, "metadata": dict, "managedBy": str,
    "submitterPodTemplate": dict,
}  # fmt: skip
RAY_CLUSTER_SPEC = {
    "headGroupSpec": dict, "workerGroupSpecs": list, "rayVersion": str, "enableInTreeAutoscaling": bool, "suspend": bool,
    "autoscalerOptions": dict, "headServiceAnnotations": dict, "gcsFaultToleranceOptions": dict, "managedBy": str,
}  # fmt: skip
HEAD_GROUP_SPEC = {"rayStartParams": dict, "template": dict, "serviceType": str, "headService": dict, "enableIngress": bool}
WORKER_GROUP_SPEC = {
    "groupName": str, "minReplicas": int, "maxReplicas": int, "rayStartParams": dict, "template": dict, "replicas": int,
    "numOfHosts": int, "idleTimeoutSeconds": int, "scaleStrategy": dict, "suspend": bool,
}  # fmt: skip
AUTOSCALER_OPTIONS = {
    "resources": dict, "image": str, "imagePullPolicy": str, "securityContext": dict, "idleTimeoutSeconds": int, "env": list,
    "envFrom": list, "volumeMounts": list, "upscalingMode": str,
}  # fmt: skip
REQUIRED = {
    "spec": {"entrypoint", "submissionMode", "backoffLimit", "shutdownAfterJobFinishes", "rayClusterSpec"},
    "rayClusterSpec": {"headGroupSpec", "workerGroupSpecs", "rayVersion", "enableInTreeAutoscaling"},
    "headGroupSpec": {"rayStartParams", "template"},
    "workerGroupSpecs": {"groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"},
    "autoscalerOptions": set[str](),
}


def check_fields(where: str, found: dict[str, Any], allowed: dict[str, type]) -> None:
    assert found.keys() <= allowed.keys(), f"{where}: {sorted(found.keys() - allowed.keys())} are no fields"
    assert found.keys() >= REQUIRED[where], f"{where}: {sorted(REQUIRED[where] - found.keys())} are missing"
    for name, value in found.items():
        assert type(value) is allowed[name], f"{where}.{name} is {value!r}"


def check_ray_job(manifest: dict[str, Any]) -> None:
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    assert manifest.keys() == {"apiVersion", "kind", "metadata", "spec"}
    spec = manifest["spec"]
    check_fields("spec", spec, RAY_JOB_SPEC)
    assert spec["submissionMode"] in ("K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode")
    assert spec.get("submitterConfig", {}).keys() <= {"backoffLimit"}
    ray_cluster = spec["rayClusterSpec"]
    check_fields("rayClusterSpec", ray_cluster, RAY_CLUSTER_SPEC)
    check_fields("autoscalerOptions", ray_cluster["autoscalerOptions"], AUTOSCALER_OPTIONS)
    assert ray_cluster["autoscalerOptions"]["upscalingMode"] in ("Default", "Aggressive", "Conservative")
    check_fields("headGroupSpec", ray_cluster["headGroupSpec"], HEAD_GROUP_SPEC)
    for group in ray_cluster["workerGroupSpecs"]:
        check_fields("workerGroupSpecs", group, WORKER_GROUP_SPEC)
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in [ray_cluster["headGroupSpec"], *ray_cluster["workerGroupSpecs"]]:
        # Parameters are handed to `ray start`, and have to be strings.
        assert all(type(value) is str for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert all(type(variable["value"]) is str for variable in container["env"])


def test_the_ray_job_has_the_fields_of_the_resource():
    check_ray_job(read(RAY_JOB))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: m["spec"].update(entryPoint="x"),
        lambda m: m["spec"].pop("rayClusterSpec"),
        lambda m: m["spec"].update(backoffLimit="3"),
        lambda m: m["spec"].update(submissionMode="k8s"),
        lambda m: m["spec"]["rayClusterSpec"].update(maxWorkers=3),
        lambda m: m["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
        lambda m: m["spec"]["rayClusterSpec"]["workerGroupSpecs"][0].pop("template"),
        lambda m: m["spec"]["rayClusterSpec"]["workerGroupSpecs"][0].update(minReplicas=20),
    ],
)
def test_a_spoilt_ray_job_is_found(spoil: Callable[[dict[str, Any]], object]):
    manifest = read(RAY_JOB)
    spoil(manifest)
    with pytest.raises((AssertionError, KeyError)):
        check_ray_job(manifest)


def test_the_ray_job_drives_on_the_head_and_works_on_scratch():
    spec = read(RAY_JOB)["spec"]
    ray_cluster = spec["rayClusterSpec"]
    assert ray_cluster["rayVersion"] == ray.__version__
    assert f"FROM rayproject/ray:{ray.__version__}-" in RAY_JOB.read_text()
    assert ray_cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert spec["entrypoint"].split()[:2] == ["tokenmill", "run"]
    for group in [ray_cluster["headGroupSpec"], *ray_cluster["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        variables = {variable["name"]: variable["value"] for variable in container["env"]}
        assert variables["TMPDIR"] in {mount["mountPath"] for mount in container["volumeMounts"]}
        assert variables["NUMBA_CACHE_DIR"].startswith(variables["TMPDIR"])
        assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]
        assert pod["serviceAccountName"]
